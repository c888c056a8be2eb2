"""The connections of an HTTP server: how many there may be, and how long each waits for its peer.

aiohttp itself waits for a head, and for a peer that reads nothing, as long as the peer likes.
"""

import asyncio
import logging
import math
import resource
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

REASONS: Final = {
    "malformed": "requests that are not HTTP were refused",
    "slow-head": "connections were closed: no whole head came in time",
    "unread": "connections were closed: the client did not read its answer",
    "too-many": "connections were closed: there were as many as there may be",
}
"""Why the server ends a connection by itself, and what the log says of it."""

EVERY: Final = 0.5
"""Seconds between two looks at all connections."""
QUIET: Final = 60.0
"""Seconds between two log lines of one reason."""

_OTHER_FILES: Final = 256
"""Files for clients of the servers, and for connections that asyncio accepts in one turn (128)."""


class Refusals:
    """Counts what was refused, by reason. Logs a line a minute for each, without any content."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._logged: dict[str, tuple[float, int]] = {}

    def note(self, reason: str) -> None:
        self.counts[reason] += 1
        at, before = self._logged.get(reason, (-math.inf, 0))
        now = time.monotonic()
        if now - at >= QUIET:
            self._logged[reason] = now, self.counts[reason]
            log.warning("%d %s", self.counts[reason] - before, REASONS[reason])


class Connection(Protocol):
    """What the registry needs of one. Times are the loop's."""

    head_by: float
    """When the head must be whole; infinity if none is awaited."""
    unread_since: float | None
    """Since when there is something that its peer has not read."""

    @property
    def unread(self) -> int:
        """Bytes that wait for the peer."""
        ...

    def abort(self) -> None: ...


class HttpConnections:
    """All connections of one server, and its limits."""

    def __init__(self, settings: Settings) -> None:
        self.head_seconds = settings.http_head_seconds
        self.idle_seconds = settings.http_idle_seconds
        self.refusals = Refusals()
        self.write_seconds = settings.http_write_seconds
        self.most = most(settings.http_connections)
        self._open: set[Connection] = set()
        self._some = asyncio.Event()  # set while one is open
        self._idle: dict[Connection, None] = {}  # in the order in which they became so

    def admit(self, connection: Connection) -> bool:
        """Add one that is idle as yet. If there are too many, the one that is idle for longest is
        closed; without such a one the new one is not admitted."""
        if len(self._open) >= self.most:
            self.refusals.note("too-many")
            longest = next(iter(self._idle), None)
            if longest is None:
                return False
            self.forget(longest)
            longest.abort()
        self._open.add(connection)
        self._some.set()
        self._idle[connection] = None
        return True

    def forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)
        if not self._open:
            self._some.clear()

    def busy(self, connection: Connection) -> None:
        """It has a request."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """It waits for a request."""
        if connection in self._open:
            self._idle[connection] = None

    async def watch(self) -> None:
        """Close those whose peers take too long, until cancelled."""
        loop = asyncio.get_running_loop()
        skipped = False
        while True:
            await self._some.wait()
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            # When the process stood still, what its peers sent meanwhile is read first; a process
            # that is overloaded is late each time.
            skipped = not skipped and loop.time() >= due + EVERY
            if not skipped:
                self._close_late(loop.time())

    def _close_late(self, now: float) -> None:
        for each in tuple(self._open):
            if each.head_by <= now:
                self._close(each, "slow-head")
            elif not each.unread:
                each.unread_since = None
            elif each.unread_since is None:
                each.unread_since = now
            elif now - each.unread_since >= self.write_seconds:
                self._close(each, "unread")

    def _close(self, connection: Connection, reason: str) -> None:
        self.refusals.note(reason)
        self.forget(connection)
        connection.abort()

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("bank_http_connections", "Open HTTP connections", len(self._open))
        yield GaugeMetricFamily(
            "bank_http_connections_most", "HTTP connections that there may be", self.most
        )
        refused = CounterMetricFamily(
            "bank_http_refusals",
            "Connections that the server closed by itself, by reason",
            labels=["reason"],
        )
        for reason, number in self.refusals.counts.items():
            refused.add_metric([reason], number)
        yield refused


def most(wanted: int) -> int:
    """How many connections there may be, so that the process never runs out of files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(files - _OTHER_FILES, files // 4))
