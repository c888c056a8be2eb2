"""How long to wait before a process that has ended is started again, and how to tell its end."""

import signal
from typing import Final

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_LIVED_LONG: Final = 60.0


class Backoff:
    """Pauses that grow, in seconds, until the process has lived long."""

    def __init__(self) -> None:
        self._next = _FIRST_PAUSE

    def pause(self, lived: float) -> float:
        """The pause after a life of so many seconds."""
        if lived > _LIVED_LONG:
            self._next = _FIRST_PAUSE
        pause, self._next = self._next, min(2 * self._next, _LONGEST_PAUSE)
        return pause


def ending(code: int) -> str:
    """An exit code in words; a negative one is a signal, negated."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
