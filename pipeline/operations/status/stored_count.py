"""How many events are stored: for servers that keep the count, and for those that do not.

The embedded MongoDB counts events one by one, and answers nobody meanwhile. So it is asked only
while somebody looks, for a hundredth of the time at most, and never again once that takes long. The
log tells how many were stored since then.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final, NamedTuple

from pipeline.eventstore import EventStore
from pipeline.operations.status.overview import Count
from pipeline.operations.status.partitions import Reading
from pipeline.operations.status.probe import Unknown
from pipeline.support.shared_reading import SharedReading

_REST: Final = 99
"""For how many times its own duration a count is used before the next one. One that failed is not
repeated sooner either: the server may still be at it."""
_LONG: Final = 0.5
"""Seconds of a count that is the last one."""
_NOT_YET: Final = Unknown("the events are not counted yet")


class Reached(NamedTuple):
    """The messages of the log, the stream made `of` that time, and the events that are not in it
    yet, together, `at` a time of the event loop's clock. It grows by one with each event that is
    stored."""

    events: int
    at: float
    of: str


def reached(reading: Reading) -> Reached | None:
    """None if it is not known."""
    log, waiting = reading.log, reading.unforwarded
    if log is None or isinstance(waiting, Unknown) or waiting.more:
        return None
    return Reached(log.given + waiting.events, log.at, log.state.created)


class StoredCount:
    """Remembers the last count."""

    def __init__(self, store: Callable[[], EventStore]) -> None:
        self._store = store
        self._counting = SharedReading(self._count, seconds=0)
        self._known: Count | None = None
        self._next = 0.0
        self._at: Reached | None = None
        """Where the log was when `_known` was right; None: at the next reading."""

    async def close(self) -> None:
        await self._counting.close()

    async def read(self, *, looked_at: bool) -> Count | Unknown:
        """About how many there are. Raises `StoreUnavailable`, whatever is known."""
        due = asyncio.get_running_loop().time() >= self._next
        if looked_at and due:
            # It goes on when the reader has stopped waiting: the server does, too.
            return await self._counting.get()
        await self._store().ping()
        return self._known or _NOT_YET

    def grown(self, count: Count, now: Reached | None) -> Count:
        """The count that was just read, with what was stored since it was made."""
        if now is None:
            return count
        before, self._at = self._at, now
        if before is None or before.of != now.of:
            return count
        self._known = Count(count.events + now.events - before.events, now.at)
        return self._known

    async def _count(self) -> Count:
        clock = asyncio.get_running_loop().time
        # Forget the old count first: if counting fails, the next reading must not show it.
        self._known, self._at, began = None, None, clock()
        try:
            self._known = Count(await self._store().estimate(), clock())
            return self._known
        finally:
            took = clock() - began
            last = self._known is not None and took >= _LONG
            self._next = math.inf if last else clock() + _REST * took
