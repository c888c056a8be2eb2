"""Whose code the roles of a bank run: this checkout's, or that of another one beside it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.support.settings import PREFIX, Settings, environment

ROOT: Final = Path(__file__).parents[1]
_WRITTEN: Final = ("docs/performance.md", "docs/performance.svg", "benchmarks/results")
"""By the benchmark itself, so they say nothing of the code that was measured."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with the code, and the interpreter that has what it needs."""

    folder: Path
    python: Path

    @property
    def commit(self) -> str:
        """Its short name; with `-dirty` if its code differs. The folder's name without git."""
        name = self._git("describe", "--always", "--exclude=*")
        code = (":/", *(f":(top,exclude){each}" for each in _WRITTEN))
        changed = self._git("status", "--porcelain", "--untracked-files=no", "--", *code)
        return f"{name}-dirty" if changed else name or self.folder.name

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def environment(self, settings: Settings) -> dict[str, str]:
        """The variables of a role with these settings; another checkout may not know all."""
        others = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        ours = environment(settings)
        if self != HERE:
            told = {PREFIX + name.upper() for name in settings.model_dump(exclude_defaults=True)}
            ours = {name: value for name, value in ours.items() if name in told}
        return others | ours


HERE: Final = Checkout(ROOT, Path(sys.executable))


def checkout(folder: Path) -> Checkout:
    """Another checkout; `ValueError` if it has not been installed."""
    found = Checkout(folder.absolute(), folder.absolute() / ".venv" / "bin" / "python")
    if not found.python.exists():
        raise ValueError(f"{folder} has no .venv: run `make install` there")
    return found
