"""`GET /timeline`: what happened to the pipeline, the newest first.

Each service compares the readings of `GET /pipeline`, and keeps what it saw in the stream of the
timeline, where it also learns what others saw, and those before it. Without NATS its own lines wait
in memory and are told all the same.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import asdict
from typing import Final

from aiohttp import web
from typing_extensions import TypedDict
from ulid import ULID

from api.http.operations import json, operation
from api.http.replies import reply
from api.security.access import OBSERVERS, allowed
from pipeline.messaging import JetStream
from pipeline.operations import timeline as stored
from pipeline.operations.status.happenings import Changes, Happening, Reading
from pipeline.operations.timeline import Line
from pipeline.support.cancellation import running
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

MOST: Final = 500
"""Happenings that are told, and lines that wait for NATS."""
_REMEMBERED: Final = 4 * MOST
"""Lines, of which several may tell of the same."""
_PATIENCE: Final = 5.0
"""Seconds for which the first comparison waits for what was seen before."""

routes = web.RouteTableDef()


class Happenings(TypedDict):
    """What happened, the newest first. `since`: when this service looked for the first time; null:
    it has not. What is older was seen by others."""

    since: str | None
    data: list[Happening]


class Timeline:
    """What happened, as this service and others have seen it, for the service's lifetime."""

    def __init__(self, connected: Callable[[], Awaitable[JetStream]]) -> None:
        self._connected, self._by = connected, str(ULID())
        self._changes = Changes()
        self._since: str | None = None
        self._begun = self._ensured = False
        self._lines: dict[str, Line] = {}
        self._waiting: deque[Line] = deque(maxlen=MOST)
        self._last = 0
        self._reading: Reading | None = None
        self._noted = asyncio.Event()

    def note(self, reading: Reading) -> None:
        """A new reading. It is not compared before it is known what others saw."""
        self._reading = reading
        if self._begun:
            self._compare()

    def _compare(self) -> None:
        if self._reading is not None:
            self._since = self._since or self._reading["at"]
            for change in self._changes.after(self._reading):
                self._waiting.append(Line(str(ULID()), self._by, change))
            self._noted.set()

    def all(self) -> Happenings:
        known = {**self._lines, **{each.id: each for each in self._waiting}}
        return Happenings(since=self._since, data=stored.merged(known.values())[: -MOST - 1 : -1])

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Store what is noted inside the block, and read what others store."""
        return running(self._run())

    async def _run(self) -> None:
        with suppress(Exception):
            async with asyncio.timeout(_PATIENCE):
                await self._exchange()
        for line in stored.ordered(self._lines.values()):
            self._changes.remember(line.change)
        self._begun = True
        try:
            self._compare()
        except Exception:  # the next reading is compared all the same
            log.exception("what others saw of the pipeline can't be compared with what it is now")
        outage = Outage(log, "the timeline")
        while True:
            await self._noted.wait()
            self._noted.clear()
            await outage.retry_forever(self._exchange)

    async def _exchange(self) -> None:
        """Write what waits, then read what is new."""
        js = await self._connected()
        try:
            if not self._ensured:
                await stored.ensure(js)
                self._ensured = True
            while self._waiting:
                await self._write(js, self._waiting[0])
            async for sequence, line in stored.read(js, self._last):
                self._last = sequence
                self._remember(line)
        except Exception:
            self._ensured = False  # somebody may have deleted the stream
            raise

    async def _write(self, js: JetStream, line: Line) -> None:
        sequence = await stored.write(js, line)
        self._remember(line)
        if self._waiting and self._waiting[0] is line:  # else so many came that it was dropped
            self._waiting.popleft()
        if sequence <= self._last:  # the stream was made anew
            self._last = 0

    def _remember(self, line: Line) -> None:
        self._lines[line.id] = line
        while len(self._lines) > _REMEMBERED:
            del self._lines[next(iter(self._lines))]


TIMELINE: Final = web.AppKey("timeline", Timeline)


@routes.get("/timeline")
@allowed(*OBSERVERS)
@operation(json(Happenings))
async def timeline(request: web.Request) -> web.Response:
    """What happened: servers, forwarders, workers and partitions, rebuilds, parked accounts."""
    found = request.app[TIMELINE].all()
    shown = {"since": found["since"], "data": [asdict(each) for each in found["data"]]}
    return reply(shown, headers={"Cache-Control": "no-store"})
