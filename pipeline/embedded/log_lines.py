"""Merges the logs of several processes; each line begins with its role, coloured on a terminal."""

import sys
from threading import Lock
from typing import Final, TextIO

_COLOURS: Final = (36, 33, 32, 35, 34, 96, 93, 92)


class LogLines:
    """Writes whole lines of several roles to one stream. Thread-safe."""

    def __init__(self, stream: TextIO | None = None, *, prefix: bool = True) -> None:
        """`prefix`: False for JSON lines, which contain their role."""
        self._stream = stream or sys.stderr
        self._prefix = prefix
        self._colour = self._stream.isatty()
        self._roles: dict[str, int] = {}
        self._lock = Lock()

    def __call__(self, role: str, line: str) -> None:
        with self._lock:
            self._stream.write(f"{self._before(role)}{line}\n")
            self._stream.flush()

    def _before(self, role: str) -> str:
        if not self._prefix:
            return ""
        number = self._roles.setdefault(role, len(self._roles))
        name = f"{role:<9} |"
        if not self._colour:
            return f"{name} "
        return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{name}\x1b[0m "


class RoleStream:
    """A stream for a logging handler: writes this process's own log as lines of one role."""

    def __init__(self, role: str, lines: LogLines) -> None:
        self._role, self._lines = role, lines

    def write(self, text: str) -> int:
        for line in text.splitlines():
            self._lines(self._role, line)
        return len(text)

    def flush(self) -> None:
        """Nothing to do: `LogLines` flushes each line."""
