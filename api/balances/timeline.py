"""`GET /timeline`: what happened to the pipeline, the newest first.

Each service compares the readings of `GET /pipeline` with what is known, the fold of the lines in
the stream of the timeline, and adds what is new. Until NATS has them its own lines wait in memory,
and are told all the same.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Final

from aiohttp import web
from typing_extensions import TypedDict

from api.http.operations import json, operation
from api.http.replies import reply
from api.security.access import OBSERVERS, allowed
from pipeline.messaging import JetStream, WrongLastSequence
from pipeline.operations import timeline as stored
from pipeline.operations.local_timeline import LocalTimeline
from pipeline.operations.status.happenings import Happening, Reading
from pipeline.operations.timeline import Line
from pipeline.support.cancellation import running
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

routes = web.RouteTableDef()


class Happenings(TypedDict):
    """What happened, the newest first. `since`: when this service looked for the first time; null:
    it has not. Lines come from all balance services."""

    since: str | None
    data: list[Happening]


class Timeline:
    """What happened, as this service and others have seen it, for the service's lifetime."""

    def __init__(self, connected: Callable[[], Awaitable[JetStream]], name: str = "") -> None:
        self._connected, self._local = connected, LocalTimeline(name)
        self._last, self._created = 0, ""
        self._ensured = False
        self._noted = asyncio.Event()

    def note(self, reading: Reading) -> None:
        """A new reading."""
        self._noted.set()
        self._local.note(reading)

    def all(self) -> Happenings:
        return Happenings(since=self._local.since, data=self._local.all())

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Store what is noted inside the block, and read what others store."""
        return running(self._run())

    async def _run(self) -> None:
        outage = Outage(log, "the timeline")
        while True:
            await outage.retry_forever(self._exchange)
            await self._noted.wait()
            self._noted.clear()

    async def _exchange(self) -> None:
        """Read what is new, then store what is news even so."""
        js = await self._connected()
        try:
            await self._read(js)
            while self._local.waiting:
                await self._write(js, self._local.waiting[0])
        except Exception:
            self._ensured = False  # somebody may have deleted the stream
            raise

    async def _read(self, js: JetStream) -> None:
        """Read on to the end; what is interrupted goes on there, and nothing is compared before."""
        if (state := await js.state(js.names.happenings)) is None:
            self._ensured = False
        else:
            if state.created != self._created:
                self._last, self._created = 0, state.created
            async for sequence, line in stored.read(js, self._last, state.last):
                if line is not None:
                    self._local.remember(line)
                self._last = sequence
        self._local.rebase()

    async def _write(self, js: JetStream, line: Line) -> None:
        if not self._ensured:
            await stored.ensure(js)
            self._ensured = True
        try:
            self._last = await stored.write(js, line, self._last)
        except WrongLastSequence:  # somebody was faster: it may be no news any more
            await self._read(js)
        else:
            self._local.remember(line)


TIMELINE: Final = web.AppKey("timeline", Timeline)


@routes.get("/timeline")
@allowed(*OBSERVERS)
@operation(json(Happenings))
async def timeline(request: web.Request) -> web.Response:
    """What happened: servers, forwarders, workers and partitions, rebuilds, parked accounts."""
    found = request.app[TIMELINE].all()
    shown = {"since": found["since"], "data": [asdict(each) for each in found["data"]]}
    return reply(shown, headers={"Cache-Control": "no-store"})
