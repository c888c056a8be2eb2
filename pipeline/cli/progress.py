"""How far it is: bars in a terminal, and where there is none a line every few seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
)

LINE_SECONDS: Final = 3.0
"""Seconds between two lines."""


@contextmanager
def displayed(bars: Progress, line: Callable[[], str]) -> Iterator[None]:
    """Keep the bars on their console meanwhile; one that can't draw them gets the line instead.

    A thread of its own says it, for what takes long may keep the caller's busy.
    """
    if bars.console.is_interactive:
        with bars:
            yield
        return
    over = Event()

    def print_lines() -> None:
        while not over.wait(LINE_SECONDS):
            if text := line():
                print_line(bars.console, text)

    thread = Thread(target=print_lines, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def print_line(console: Console, line: str) -> None:
    """A line as it is; above the bars, where there are any."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def progress_line(what: str, done: int, total: int, rate: float | None, left: str) -> str:
    """What is done, of how many, how quickly and how much longer, as far as that is known."""
    known = [f"{what}: {done:,} of {total:,}"]
    known += [f"{rate:,.0f} a second"] if rate else []
    known += [f"{left} left"] if left else []
    return ", ".join(known)


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class Steps:
    """Steps that follow one another, each with a bar. A step with a total of 1 is done or not."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._step: Task | None = None

    @contextmanager
    def displayed(self) -> Iterator[None]:
        with displayed(self._bars, self._line):
            yield

    def note(self, what: str, done: int, total: int) -> None:
        """So much of a step is done; who names another one begins it."""
        if self._step is None or self._step.description != what:
            self._bars.add_task(what, total=total)
            self._step = self._bars.tasks[-1]
        before = self._step.finished
        self._bars.update(self._step.id, completed=done, total=total)
        if self._step.finished and not before and not self._bars.console.is_interactive:
            print_line(self._bars.console, self._over(self._step))

    def remark(self, line: str) -> None:
        """A line above the bars."""
        print_line(self._bars.console, line)

    def _line(self) -> str:
        step = self._step
        if step is None or step.finished:
            return ""
        if step.total == 1:
            return f"{step.description}: {clock(step.elapsed or 0)} so far"
        left = "" if step.time_remaining is None else clock(step.time_remaining)
        done, total = int(step.completed), int(step.total or 0)
        return progress_line(step.description, done, total, step.speed, left)

    def _over(self, step: Task) -> str:
        number = "" if step.total == 1 else f"{int(step.completed):,} "
        return f"{step.description}: {number}done in {clock(step.finished_time or 0)}"
