"""`GET /partitions` and the lag in `/metrics`, both from a reading that is at most a second old."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Final

from aiohttp import web

from api.balances.connections import Connections
from api.balances.projected import ProjectionQuery, projection_of
from api.http.operations import json, operation
from api.http.replies import reply
from api.http.shapes import All
from api.security.access import OBSERVERS, allowed
from pipeline.model.projection import FIRST, Projection
from pipeline.operations.status.partition_metrics import families
from pipeline.operations.status.partitions import Partitions, PartitionStatus, Reading
from pipeline.operations.status.reader import StatusReader
from pipeline.support.metrics import Metric
from pipeline.support.settings import Settings
from pipeline.support.shared_reading import SharedReading

routes = web.RouteTableDef()


class PartitionSnapshot:
    """Readings of one projection's partitions, for the service's lifetime."""

    def __init__(
        self, connections: Connections, settings: Settings, projection: Projection
    ) -> None:
        self.projection = projection
        self.reader = StatusReader(
            settings, connections.connected, lambda: connections.store, projection
        )
        self._snapshot = SharedReading(Partitions(self.reader, settings.partitions).read)
        self._latest: Reading | None = None

    @property
    def latest(self) -> Sequence[PartitionStatus]:
        """The partitions as read before the last scrape; empty if that failed."""
        return self._latest.partitions if self._latest else []

    async def now(self) -> Reading:
        self._latest = await self._snapshot.get()
        return self._latest

    async def refresh(self) -> None:
        """Read before a scrape. If that fails, the metrics show nothing rather than old figures."""
        try:
            await self.now()
        except BaseException:
            self._latest = None
            raise

    async def close(self) -> None:
        await self._snapshot.close()
        await self.reader.close()


class PartitionSnapshots:
    """The readings of all projections by name, and the collector of their metrics."""

    def __init__(
        self, connections: Connections, settings: Settings, projections: Iterable[Projection]
    ) -> None:
        self.of = {
            each.name: PartitionSnapshot(connections, settings, each) for each in projections
        }

    @property
    def shown(self) -> list[PartitionSnapshot]:
        """All of them; `balance` first, if the bank has it."""
        return sorted(self.of.values(), key=lambda each: each.projection.name != FIRST)

    async def refresh(self) -> None:
        """Read all before a scrape."""
        await asyncio.gather(*(each.refresh() for each in self.of.values()))

    def collect(self) -> Iterator[Metric]:
        return families({name: each.latest for name, each in self.of.items()})

    async def close(self) -> None:
        for each in self.of.values():
            await each.close()


SNAPSHOTS: Final = web.AppKey("partitions", PartitionSnapshots)


@routes.get("/partitions")
@allowed(*OBSERVERS)
@operation(json(All[PartitionStatus]), "projection-not-found", query=ProjectionQuery)
async def partitions(request: web.Request) -> web.Response:
    """All partitions: whose each one is, and how far behind.

    What is null is unknown, and said why, or is not there.
    """
    reading = await request.app[SNAPSHOTS].of[projection_of(request).name].now()
    return reply({"data": [asdict(each) for each in reading.partitions]})
