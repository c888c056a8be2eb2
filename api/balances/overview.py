"""`GET /pipeline` and `GET /pipeline/events`: the status of the pipeline, from the store to the
projections. All clients share one reading a second; without a client one is read every ten seconds,
for the charts of the last hour and the timeline."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final, Literal

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from api.balances.connections import Connections
from api.balances.partitions import PartitionSnapshots
from api.balances.projected import ProjectionQuery, projection_of
from api.balances.rebuilds import Rebuild
from api.http.operations import JSON, Answer, json, operation
from api.http.replies import reply
from api.http.streams import EVENTS, event, stream
from api.security.access import OBSERVERS, allowed
from pipeline.operations.status.last_hour import EMPTY, STEP, Hour, LastHour, PartitionsHour
from pipeline.operations.status.overview import Overview
from pipeline.operations.status.pipeline_monitor import PipelineMonitor
from pipeline.support.cancellation import running
from pipeline.support.settings import Settings
from pipeline.support.shared_reading import SharedReading

log = logging.getLogger(__name__)

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
        self,
        connections: Connections,
        settings: Settings,
        partitions: PartitionSnapshots,
        elasticsearch_answered: Callable[[], float],
        on_reading: Callable[[dict[str, Any]], object],
    ) -> None:
        """`elasticsearch_answered`: as of `PipelineMonitor`; `on_reading` is called with each new
        reading."""
        shown = partitions.shown
        self._monitor = PipelineMonitor(
            settings,
            {each.projection: each.now for each in shown},
            shown[0].reader,
            lambda: connections.store,
            elasticsearch_answered,
        )
        self._snapshot = SharedReading(partial(self._read, looked_at=True), EVERY)
        self._one_by_one, self._read_at = asyncio.Lock(), -math.inf
        self._on_reading = on_reading

    async def now(self) -> bytes:
        return await self._snapshot.get()

    @property
    def hour(self) -> LastHour:
        """The points of the last hour."""
        return self._monitor.hour

    async def news(self) -> AsyncGenerator[bytes | None, None]:
        """A reading about once a second, for ever, and the points of the last hour, all of them at
        first and then each that is new; None if nothing has changed."""
        last, after = b"", 0
        while True:
            now = await self.now()
            yield event("pipeline", now) if now != last else None
            last = now
            if (points := self.hour.since(after)) is not None:
                after = points.at[-1]
                yield event("hour", orjson.dumps(points))
            await asyncio.sleep(EVERY)

    def watched(self) -> AbstractAsyncContextManager[None]:
        """Read for the last hour inside the block, whoever listens."""
        return running(self._watch())

    async def _watch(self) -> None:
        while True:
            try:
                if asyncio.get_running_loop().time() > self._read_at + STEP / 2:
                    await self._read(looked_at=False)
            except Exception:
                log.warning("the pipeline can't be read", exc_info=True)
            await asyncio.sleep(STEP - time.time() % STEP)

    async def close(self) -> None:
        await self._snapshot.close()
        await self._monitor.close()

    async def _read(self, *, looked_at: bool) -> bytes:
        async with self._one_by_one:  # the monitor compares each with the one before
            reading = asdict(await self._monitor.read(looked_at=looked_at))
        self._read_at = asyncio.get_running_loop().time()
        try:
            self._on_reading(reading)
        except Exception:  # the reading is shown all the same
            log.exception("a reading of the pipeline can't be compared with the one before")
        return orjson.dumps(reading)


class PipelineEvent(TypedDict):
    """An event; its `data` is in one line what `GET /pipeline` shows, or points of what `GET
    /pipeline/hour` shows."""

    event: Literal["pipeline", "hour"]
    data: str


_NOT_KEPT: Final = {"Cache-Control": "no-store"}

OVERVIEWS: Final = web.AppKey("overviews", Overviews)


@routes.get("/pipeline")
@allowed(*OBSERVERS)
@operation(json(Pipeline))
async def pipeline(request: web.Request) -> web.Response:
    """The pipeline as it stands: what waits at each stage, how fast it goes on, and who works.

    What is null is unknown, and said why, or is not there. It is a second old at most.
    """
    body = await request.app[OVERVIEWS].now()
    return web.Response(body=body, content_type=JSON, headers=_NOT_KEPT)


@routes.get("/pipeline/events", allow_head=False)
@allowed(*OBSERVERS)
@operation(Answer({EVENTS: PipelineEvent}), "too-many-streams")
async def pipeline_events(request: web.Request) -> web.StreamResponse:
    """The same about once a second, as long as somebody listens: events `pipeline`.

    Events `hour` have the points of the last hour, all at first and then each that is new.
    """
    return await stream(request, request.app[OVERVIEWS].news())


@routes.get("/pipeline/hour")
@allowed(*OBSERVERS)
@operation(json(Hour))
async def hour(request: web.Request) -> web.Response:
    """Lag and rates of the last hour, or since the service started, a point for ten seconds."""
    return reply(asdict(request.app[OVERVIEWS].hour.since() or EMPTY), headers=_NOT_KEPT)


@routes.get("/partitions/hour")
@allowed(*OBSERVERS)
@operation(json(PartitionsHour), "projection-not-found", query=ProjectionQuery)
async def partitions_hour(request: web.Request) -> web.Response:
    """The lag of each partition of a projection, at the same points."""
    found = request.app[OVERVIEWS].hour.partitions(projection_of(request).name)
    return reply(asdict(found), headers=_NOT_KEPT)
