"""The example: small, told whole by the tutorial, and at work from the wheel."""

import re
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import placed
from tests.harness import Role, eventually
from tests.readme import ANY, Names, Shell, steps
from tests.wheel import ROOT, Environment, build

EXAMPLE = ROOT / "examples" / "parcels"
TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
JOINT = "## 6. A command over two aggregates"
TOLD = (".py", ".toml")
UP, RUNS = "bank up", "parcels runs."
APPLICATION = "parcels:PARCELS"
BY_NAME = {"BANK_APPLICATION": "parcels"}


def files() -> Iterator[Path]:
    """What the tutorial builds."""
    found = sorted(path for path in EXAMPLE.rglob("*") if path.suffix in TOLD)
    return (path for path in found if "build" not in path.parts)


def test_the_example_is_small() -> None:
    """By `wc -l`, tests and blank lines counted."""
    assert 0 < sum(path.read_text().count("\n") for path in EXAMPLE.rglob("*.py")) < 150


def blocks(markdown: str, *kinds: str) -> list[str]:
    """The blocks of code of these kinds, in their order."""
    return [text for kind, text in BLOCK.findall(markdown) if kind in kinds]


def test_the_tutorial_has_the_whole_example_and_nothing_else() -> None:
    """Each block of code before the joint command is a piece of one of its files."""
    left = {path: path.read_text().splitlines(keepends=True) for path in files()}
    for block in blocks(TUTORIAL.read_text().partition(JOINT)[0], "python", "toml"):
        assert any(taken(lines, block.splitlines(keepends=True)) for lines in left.values()), block
    assert not [line for lines in left.values() for line in lines if line.strip()]


def taken(lines: list[str], piece: list[str]) -> bool:
    """Whether the piece is there; it is blanked out then."""
    for at in range(len(lines) - len(piece) + 1):
        if lines[at : at + len(piece)] == piece:
            lines[at : at + len(piece)] = ["\n"] * len(piece)
            return True
    return False


async def test_the_tutorials_joint_command_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = blocks(TUTORIAL.read_text().partition(JOINT)[2], "python")
    (tmp_path / "tutorial_van.py").write_text("\n".join(code))
    monkeypatch.syspath_prepend(tmp_path)
    van = import_module("tutorial_van")
    van.test_a_full_van_takes_no_parcel()
    await van.test_a_loaded_parcel_takes_the_room()


def test_the_tutorial_runs_what_the_readme_of_the_example_runs() -> None:
    known = {step.command for step in steps((EXAMPLE / "README.md").read_text())}
    shown = {step.command for step in steps(TUTORIAL.read_text())}
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
    # The build needs no environment of its own, for which something would be fetched.
    environ = {**there.environ, "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
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
