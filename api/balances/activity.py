"""`GET /activity`: the last hour by minute and kind, for a chart."""

from typing import Any, Final, Literal

from aiohttp import web
from typing_extensions import TypedDict

from api.balances.connections import Connections
from api.http.operations import json, operation
from api.http.replies import reply
from api.security.access import OBSERVERS, allowed
from pipeline.support.shared_reading import SharedReading
from pipeline.tables.activity_reader import ActivityReader

routes = web.RouteTableDef()


class Figures(TypedDict):
    """Of one kind of event: how many, and their money in minor units."""

    events: int
    money: int


class Minute(TypedDict):
    """The minute that begins then, and what the workers read in it, by kind."""

    minute: str
    kinds: dict[str, Figures]


class Activity(TypedDict):
    """Sixty minutes, the oldest first; the last one has not ended."""

    data: list[Minute]
    has_more: Literal[False]
    approximate: Literal[True]


class Activities:
    """One reading a second at most, shared by all requests."""

    def __init__(self, connections: Connections) -> None:
        self._connections, self._minutes = connections, ActivityReader()
        self._snapshot = SharedReading(self._read)

    async def now(self) -> dict[str, Any]:
        """Problem 503 `pipeline-unavailable` unless NATS answers."""
        return await self._snapshot.get()

    async def close(self) -> None:
        await self._snapshot.close()

    async def _read(self) -> dict[str, Any]:
        async with self._connections.jetstream() as js:
            found = await self._minutes.read(js)
        data = [{"minute": minute, "kinds": kinds} for minute, kinds in found.items()]
        return {"data": data, "has_more": False, "approximate": True}


ACTIVITIES: Final = web.AppKey("activities", Activities)


@routes.get("/activity")
@allowed(*OBSERVERS)
@operation(json(Activity), "pipeline-unavailable")
async def activity(request: web.Request) -> web.Response:
    """What went through the workers in the last hour, by minute and kind of event.

    It is approximate: after a crash some events are counted twice, and in the minute in which the
    stream got them.
    """
    return reply(await request.app[ACTIVITIES].now())
