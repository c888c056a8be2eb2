"""The rate of one count that is read now and then."""

from collections import deque
from typing import Final

_SPAN: Final = 5.0
_LONGEST: Final = 30.0


class Rate:
    """Remembers what was read in the last seconds."""

    def __init__(self) -> None:
        self._read: deque[tuple[float, int]] = deque()
        self._of: object = None

    def after(self, count: int | None, at: float = 0.0, of: object = None) -> float | None:
        """The rate, now that the count was read at that second of some clock; None: not known yet.

        It spans the last 5 seconds, or the time since the reading before if that is at most 30
        seconds ago. A failed reading (None), or a count of another thing (`of`), starts again. A
        count that went down has the rate 0.
        """
        if count is None or of != self._of:
            self._read.clear()
        self._of = of
        if count is None:
            return None
        if not self._read or at > self._read[-1][0]:
            self._read.append((at, count))
        self._forget(at)
        (began, before), (ended, now) = self._read[0], self._read[-1]
        return round(max(0, now - before) / (ended - began), 1) if ended > began else None

    def _forget(self, now: float) -> None:
        while len(self._read) > 2 and self._read[1][0] <= now - _SPAN:
            self._read.popleft()
        if len(self._read) > 1 and self._read[0][0] < now - _LONGEST:
            self._read.popleft()
