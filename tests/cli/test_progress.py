"""How far it is, told to people: bars in a terminal, lines where there is none."""

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from pipeline.cli import progress
from pipeline.cli.progress import Steps, clock, progress_line
from tests.harness import eventually


def lines_of(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    """One that nobody watches, and that is told something often."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    return Console(file=io.StringIO(), force_terminal=False, width=40)


def matching(console: Console, pattern: str) -> Callable[[], bool]:
    return lambda: any(re.fullmatch(pattern, line) for line in lines_of(console))


async def test_without_a_terminal_a_line_is_said_now_and_then(console: Console) -> None:
    steps = Steps(console)
    with steps.displayed():
        steps.note("starting", 0, 1)
        await eventually(matching(console, r"starting: 0:00 so far"))
        steps.note("starting", 1, 1)
        steps.note("sending commands", 0, 20_000)
        for done in range(1, 8_001):
            steps.note("sending commands", done, 20_000)
        words = r"sending commands: 8,000 of 20,000, [\d,]+ a second, \d+:\d\d left"
        await eventually(matching(console, words))
        said = len(lines_of(console))
        await eventually(lambda: len(lines_of(console)) > said + 1)
        steps.note("sending commands", 20_000, 20_000)
    told = [line for line in lines_of(console) if "done in" in line]
    assert told == ["starting: done in 0:00", "sending commands: 20,000 done in 0:00"]


async def test_a_step_that_is_over_says_nothing_more(console: Console) -> None:
    steps = Steps(console)
    with steps.displayed():
        steps.note("projecting", 5, 5)
        steps.note("projecting", 5, 5)
    assert lines_of(console) == ["projecting: 5 done in 0:00"]


def test_in_a_terminal_each_step_has_a_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=100)
    steps = Steps(console)
    with steps.displayed():
        steps.note("starting", 1, 1)
        steps.note("sending commands", 50, 100)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", "\n".join(lines_of(console)))
    assert re.search(r"starting +━+ +1/1 ", shown)
    assert re.search(r"sending commands +[━╺]+ +50/100 ", shown)
    assert "of 100" not in shown


def test_only_what_is_known_is_said() -> None:
    assert progress_line("all", 1, 2000, None, "") == "all: 1 of 2,000"
    assert progress_line("all", 1, 2, 1234.5, "0:07") == "all: 1 of 2, 1,234 a second, 0:07 left"
    assert clock(67.9) == "1:07"
