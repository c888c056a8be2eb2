"""The timeline as one process has it: the lines that are stored, and its own that are not yet.

Readings are compared with the fold of both. What waits is compared with what others have stored
meanwhile (`rebase`), so a change that they told is not told again.
"""

import logging
import time
from collections import defaultdict, deque
from typing import Final

from ulid import ULID

from pipeline.operations.status.happenings import Change, Changes, Happening, Kind, Known, Reading
from pipeline.operations.timeline import Line
from pipeline.support.logs import moment

log = logging.getLogger(__name__)

OF_EACH_KIND: Final = 100
"""Stored lines that are kept in memory."""
WAITING: Final = 500
"""Lines that wait, of all kinds."""


class LocalTimeline:
    """Lines in memory. `since`: when the process looked for the first time, RFC 3339. `name`: the
    process's own; its start is told by itself, for nobody else may have been there to see it."""

    def __init__(self, name: str = "") -> None:
        self.since: str | None = None
        self.waiting: deque[Line] = deque()
        self._by = str(ULID())
        self._known, self._changes = Known(), Changes()
        self._stored = defaultdict[Kind, dict[str, Line]](dict)
        self._reading: Reading | None = None
        self._name = name
        self._start: Line | None = None
        self._loses = False

    def note(self, reading: Reading) -> None:
        """A new reading: what it tells waits."""
        if self.since is None:
            self.since = reading["at"]
            if self._name:
                self._start = self._started(self.since)
                self.waiting.append(self._start)
        self._reading = reading
        self._compare()

    def remember(self, line: Line) -> None:
        """A line is stored, by this process or another one; in their order."""
        self._known.remember(line.change, until=moment(time.time()))
        kind = self._stored[line.change.happening.kind]
        kind[line.id] = line
        while len(kind) > OF_EACH_KIND:
            del kind[next(iter(kind))]
        if self.waiting and self.waiting[0] is line:
            self.waiting.popleft()
            self._loses = self._loses and bool(self.waiting)

    def rebase(self) -> None:
        """Once all that is stored is remembered: compare with it what waits and, again, the latest
        reading."""
        known = self._changes.known = self._known.copy()
        waiting, self.waiting = self.waiting, deque()
        latest = self._reading["at"] if self._reading is not None else ""
        for line in waiting:
            again = line.change.happening.at == latest and line is not self._start
            if not again and known.lacks(line.change):
                known.remember(line.change)
                self.waiting.append(line)
        self._compare()

    def all(self) -> list[Happening]:
        """What happened, the newest first."""
        lines = [line for kind in self._stored.values() for line in kind.values()]
        found = [line.change.happening for line in (*lines, *self.waiting)]
        return sorted(found, key=lambda each: each.at)[::-1]

    def _started(self, at: str) -> Line:
        name = f"balances {self._name}"
        what, detail = f"{name} has started.", "It has not seen what happened before."
        happening = Happening(at, "role", "plain", name, what, detail)
        return Line(str(ULID()), self._by, Change(happening, [("role", self._by, "started")]))

    def _compare(self) -> None:
        if self._reading is None:
            return
        changes = self._changes.after(self._reading)
        self.waiting += (Line(str(ULID()), self._by, each) for each in changes)
        while len(self.waiting) > WAITING:
            if not self._loses:
                log.warning("the timeline: more than %d lines wait, the oldest are lost", WAITING)
            self._loses = True
            self.waiting.popleft()
