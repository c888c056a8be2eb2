"""`GET /timeline`: what happened to the pipeline while this service ran, the newest first.

It compares the readings of `GET /pipeline`, and makes one every few seconds where no client has any
made. It is kept in memory, the last `MOST`.
"""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from aiohttp import web
from typing_extensions import TypedDict

from api.balances.overview import Overviews
from api.http.operations import json, operation
from api.http.replies import reply
from api.security.access import OBSERVERS, allowed
from pipeline.operations.status.happenings import Changes, Happening, Reading
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.correlation import detached

EVERY: Final = 5.0
"""Seconds between two readings while no client has any made."""
MOST: Final = 500

routes = web.RouteTableDef()


class Happenings(TypedDict):
    """What happened, the newest first, since the first reading; null: there was none yet."""

    since: str | None
    data: list[Happening]


class Timeline:
    """What happened, for the service's lifetime."""

    def __init__(self, overviews: Overviews) -> None:
        self._overviews, self._changes = overviews, Changes()
        self._since: str | None = None
        self._happened: deque[Happening] = deque(maxlen=MOST)
        self._watching: asyncio.Task[None] | None = None
        overviews.on_reading = self.note

    def start(self) -> None:
        """Have readings made from now on."""
        self._watching = detached(self._watch())

    def note(self, reading: Reading) -> None:
        """A new reading."""
        self._since = self._since or reading["at"]
        self._happened.extend(self._changes.after(reading))

    def all(self) -> Happenings:
        return Happenings(since=self._since, data=[*reversed(self._happened)])

    async def close(self) -> None:
        if self._watching is not None:
            await cancel_and_wait(self._watching)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            with suppress(Exception):  # who asks for a reading is told
                await self._overviews.now()


TIMELINE: Final = web.AppKey("timeline", Timeline)


@routes.get("/timeline")
@allowed(*OBSERVERS)
@operation(json(Happenings))
async def timeline(request: web.Request) -> web.Response:
    """What happened while this service ran: servers, forwarders, workers and partitions, rebuilds,
    parked accounts."""
    found = request.app[TIMELINE].all()
    shown = {"since": found["since"], "data": [asdict(each) for each in found["data"]]}
    return reply(shown, headers={"Cache-Control": "no-store"})
