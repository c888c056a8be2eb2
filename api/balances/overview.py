"""`GET /pipeline` and `GET /pipeline/events`: the status of the pipeline, from the store to the
projections. All clients share one reading a second; without a client `timeline` has some made."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from api.balances.connections import Connections
from api.balances.partitions import PartitionSnapshots
from api.balances.rebuilds import Rebuild
from api.http.operations import JSON, Answer, json, operation
from api.http.streams import EVENTS, event, stream
from api.security.access import OBSERVERS, allowed
from pipeline.operations.status.overview import Overview
from pipeline.operations.status.pipeline_monitor import PipelineMonitor
from pipeline.support.settings import Settings
from pipeline.support.shared_reading import SharedReading

EVERY: Final = 1.0
"""Seconds from one event to the next, and the age of a reading at most."""

routes = web.RouteTableDef()


@dataclass(frozen=True, slots=True)
class Pipeline(Overview):
    """As an answer."""

    rebuild: Rebuild | None


class Overviews:
    """Readings as JSON, shared by all requests, for the service's lifetime."""

    def __init__(
        self, connections: Connections, settings: Settings, partitions: PartitionSnapshots
    ) -> None:
        shown = partitions.shown
        self._monitor = PipelineMonitor(
            settings,
            {each.projection: each.now for each in shown},
            shown[0].reader,
            lambda: connections.store,
        )
        self._snapshot = SharedReading(self._read, EVERY)
        self.on_reading: Callable[[dict[str, Any]], object] = bool
        """Called with each new reading."""

    async def now(self) -> bytes:
        return await self._snapshot.get()

    async def news(self) -> AsyncGenerator[bytes | None, None]:
        """A reading about once a second, for ever; None if it has not changed."""
        last = b""
        while True:
            now = await self.now()
            yield event("pipeline", now) if now != last else None
            last = now
            await asyncio.sleep(EVERY)

    async def close(self) -> None:
        await self._snapshot.close()
        await self._monitor.close()

    async def _read(self) -> bytes:
        reading = asdict(await self._monitor.read())
        self.on_reading(reading)
        return orjson.dumps(reading)


class PipelineEvent(TypedDict):
    """An event; its `data` is what `GET /pipeline` shows, in one line."""

    event: Literal["pipeline"]
    data: str


OVERVIEWS: Final = web.AppKey("overviews", Overviews)


@routes.get("/pipeline")
@allowed(*OBSERVERS)
@operation(json(Pipeline))
async def pipeline(request: web.Request) -> web.Response:
    """The pipeline as it stands: what waits at each stage, how fast it goes on, and who works.

    What is null is unknown, and said why, or is not there. It is a second old at most.
    """
    body = await request.app[OVERVIEWS].now()
    return web.Response(body=body, content_type=JSON, headers={"Cache-Control": "no-store"})


@routes.get("/pipeline/events", allow_head=False)
@allowed(*OBSERVERS)
@operation(Answer({EVENTS: PipelineEvent}), "too-many-streams")
async def pipeline_events(request: web.Request) -> web.StreamResponse:
    """The same about once a second, as long as somebody listens: events `pipeline`."""
    return await stream(request, request.app[OVERVIEWS].news())
