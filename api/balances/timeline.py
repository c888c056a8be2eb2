"""`GET /timeline`: what happened to the pipeline while this service ran, the newest first.

It compares the readings of `GET /pipeline`. It is kept in memory, the last `MOST`.
"""

from collections import deque
from dataclasses import asdict
from typing import Final

from aiohttp import web
from typing_extensions import TypedDict

from api.http.operations import json, operation
from api.http.replies import reply
from api.security.access import OBSERVERS, allowed
from pipeline.operations.status.happenings import Changes, Happening, Reading

MOST: Final = 500

routes = web.RouteTableDef()


class Happenings(TypedDict):
    """What happened, the newest first, since the first reading; null: there was none yet."""

    since: str | None
    data: list[Happening]


class Timeline:
    """What happened, for the service's lifetime."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._since: str | None = None
        self._happened: deque[Happening] = deque(maxlen=MOST)

    def note(self, reading: Reading) -> None:
        """A new reading."""
        self._since = self._since or reading["at"]
        self._happened.extend(self._changes.after(reading))

    def all(self) -> Happenings:
        return Happenings(since=self._since, data=[*reversed(self._happened)])


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
