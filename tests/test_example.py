"""The example: small, told whole by the tutorial, and at work from the wheel."""

import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import placed
from tests.harness import Role, eventually
from tests.readme import ANY, Names, Shell, steps
from tests.wheel import ROOT, Environment, build, clean_environ

EXAMPLE = ROOT / "examples" / "parcels"
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
BUILDING, _, _REST = TUTORIAL.partition("## 6. Run it\n")
RUNNING, _, JOINT = _REST.partition("## 7. A command over two aggregates\n")
STEP = re.compile(r"`([\w/.]+\.(?:py|toml))`|^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
CODE = {"python": ".py", "toml": ".toml"}
UP, RUNS = "bank up", "parcels runs."
APPLICATION = "parcels:PARCELS"
BY_NAME = {"BANK_APPLICATION": "parcels"}
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
"""A build needs no environment of its own, for which something would be fetched."""


def files(folder: Path) -> dict[str, list[str]]:
    """What the tutorial builds: the lines of each file that are not blank."""
    found = (path for path in folder.rglob("*") if path.suffix in CODE.values())
    return {
        str(path.relative_to(folder)): list(filter(str.strip, path.read_text().splitlines()))
        for path in found
        if "build" not in path.parts
    }


def write(folder: Path, tutorial: str) -> None:
    """Do as the reader is told: add each block of code to the file that was named last."""
    for name, kind, code in STEP.findall(tutorial):
        if name:
            path = folder / name
        elif kind in CODE:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(f"{code}\n")


def test_the_example_is_small() -> None:
    """Tests counted, blank lines not."""
    python = [lines for name, lines in files(EXAMPLE).items() if name.endswith(".py")]
    assert 0 < sum(map(len, python)) < 150


def test_the_tutorial_has_the_whole_example_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, BUILDING)
    assert files(tmp_path) == files(EXAMPLE)


def test_the_tutorials_joint_command_works_in_the_files_that_it_names(tmp_path: Path) -> None:
    write(tmp_path, BUILDING + JOINT)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "not a_scan_is_shown"],
        cwd=tmp_path,
        env=clean_environ(sysconfig.get_path("scripts")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout


@pytest.mark.timeout(900)
@pytest.mark.drill
def test_every_step_of_the_tutorial_works_in_the_folder_that_it_says(tmp_path: Path) -> None:
    """From the wheel in the reader's folder, up to the reader's own tests.

    The README of the example runs what is left.
    """
    folder, there = tmp_path / "post-office", Environment(tmp_path / "venv", None)
    folder.mkdir()
    build(folder)
    for part in (BUILDING, JOINT):
        write(folder, part)
        for step in steps(part):
            subprocess.run(
                ["bash", "-euc", step.command],
                cwd=folder,
                env={**there.environ, **OFFLINE},
                check=True,
            )


def test_the_tutorial_runs_what_the_readme_of_the_example_runs() -> None:
    known = {step.command for step in steps((EXAMPLE / "README.md").read_text())}
    shown = {step.command for step in steps(RUNNING)}
    assert shown
    assert shown <= known


def runs(up: Role) -> bool:
    return RUNS in up.log()


@pytest.mark.timeout(900)
@pytest.mark.drill
async def test_all_that_its_readme_says_works_from_the_wheel(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an environment that has the wheel and its dependencies, in a folder with the example."""
    wheel = build(tmp_path)
    there = Environment(tmp_path / "venv", wheel)
    shutil.copytree(EXAMPLE, tmp_path / "examples" / "parcels")
    monkeypatch.chdir(tmp_path)
    settings = placed(
        scratch, application=APPLICATION, projections="places", mongodb_database="parcels"
    )
    environ = {**there.environ, **OFFLINE}
    shell, names = Shell(settings, environ), Names()
    async with AsyncExitStack() as stack:
        for step in steps((EXAMPLE / "README.md").read_text()):
            if step.command.endswith(UP):
                up = Role(settings, str(there.scripts / "bank"), "up", **environ, **BY_NAME)
                await stack.enter_async_context(up)
                await eventually(partial(runs, up), seconds=120)
            else:
                command = step.command.replace("'.[", f"'{wheel}[")
                shown = step if step.kind else replace(step, kind="text", answer=ANY)
                await shell.follow(replace(shown, command=command), names)
    assert names.bound.keys() == {"PARCEL"}
