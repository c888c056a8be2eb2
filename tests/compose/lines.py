"""Command lines, as the README has them: each is told, and must end well within its time."""

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from tests.readme import steps

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = "bank-test"
"""Of Compose: a bank that somebody runs here keeps its containers and its data."""
T = TypeVar("T")


class Failed(Exception):
    """A line that did not end well, or something that did not come about; the message says all."""


def of_readme() -> list[str]:
    """The README's lines for Compose, in order."""
    commands = [step.command for step in steps((ROOT / "README.md").read_text())]
    lines = [line for command in commands for line in command.splitlines()]
    return [line for line in lines if line.startswith("docker compose ")]


def line(text: str, *, seconds: float = 120, ends_well: bool = True, told: bool = True) -> str:
    """Run it; returns what it printed. Raises `Failed`."""
    if told:
        print(f"$ {text}", flush=True)
    try:
        done = subprocess.run(
            shlex.split(text),
            cwd=ROOT,
            env={**os.environ, "COMPOSE_PROJECT_NAME": PROJECT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{text}: not within {seconds:.0f} s") from error
    if done.returncode and ends_well:
        raise Failed(f"{text}: exit code {done.returncode}\n{done.stdout[-6000:]}")
    return done.stdout


def until(what: str, check: Callable[[], T], seconds: float = 300) -> T:
    """Ask until the answer is true, and return that; an OSError or `Failed` counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            last: object = check()
            if last:
                return last  # type: ignore[return-value]
        except (OSError, Failed) as error:
            last = error
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds:.0f} s, last {last!r}")
        time.sleep(0.5)
