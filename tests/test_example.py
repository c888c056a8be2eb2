"""The example: small, told whole by the tutorial, and at work from the wheel."""

import re
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import placed
from tests.harness import Role, eventually
from tests.readme import Names, Shell, steps
from tests.wheel import ROOT, Environment, build

EXAMPLE = ROOT / "examples" / "parcels"
TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
TOLD = (".py", ".toml")
UP, RUNS = "bank up", "parcels runs."
APPLICATION = "parcels:PARCELS"
BY_NAME = {"BANK_APPLICATION": "parcels"}


def files() -> Iterator[Path]:
    """What the tutorial builds."""
    found = sorted(path for path in EXAMPLE.rglob("*") if path.suffix in TOLD)
    return (path for path in found if "build" not in path.parts)


def test_the_example_is_small() -> None:
    lines = [line for path in EXAMPLE.rglob("*.py") for line in path.read_text().splitlines()]
    assert 0 < len(list(filter(None, lines))) < 150


def test_the_tutorial_has_the_whole_example_and_nothing_else() -> None:
    """Each block of code is a piece of one of its files."""
    left = {path: path.read_text().splitlines(keepends=True) for path in files()}
    blocks = [
        text for kind, text in BLOCK.findall(TUTORIAL.read_text()) if kind in ("python", "toml")
    ]
    for block in blocks:
        assert any(taken(lines, block.splitlines(keepends=True)) for lines in left.values()), block
    assert not {
        path.name: "".join(lines) for path, lines in left.items() if any(map(str.strip, lines))
    }


def taken(lines: list[str], piece: list[str]) -> bool:
    """Whether the piece is there; it is blanked out then."""
    for at in range(len(lines) - len(piece) + 1):
        if lines[at : at + len(piece)] == piece:
            lines[at : at + len(piece)] = ["\n"] * len(piece)
            return True
    return False


def test_the_tutorial_runs_what_the_readme_of_the_example_runs() -> None:
    known = {step.command for step in steps((EXAMPLE / "README.md").read_text())}
    shown = {step.command for step in steps(TUTORIAL.read_text())}
    assert shown
    assert shown <= known


def runs(up: Role) -> bool:
    return RUNS in up.log()


@pytest.mark.timeout(900)
@pytest.mark.drill
@pytest.mark.elasticsearch
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
                await shell.follow(replace(step, command=command), names)
    assert names.bound.keys() == {"PARCEL"}
