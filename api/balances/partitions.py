"""`GET /partitions` and the lag in `/metrics`, both from a reading that is at most a second old."""

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from aiohttp import web
from prometheus_client.core import GaugeMetricFamily, Metric

from api.balances.connections import Connections
from api.balances.projected import ProjectionQuery, projection_of
from api.http.operations import json, operation
from api.http.replies import reply
from api.http.shapes import All
from api.security.access import OBSERVERS, allowed
from pipeline.model.projection import Projection
from pipeline.operations.status.partitions import Partitions, PartitionStatus, Reading
from pipeline.operations.status.reader import StatusReader
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
            settings, connections.connected_by_now, lambda: connections.store, projection
        )
        self._snapshot = SharedReading(Partitions(self.reader, settings.partitions).read)
        self._latest: Reading | None = None

    @property
    def latest(self) -> Sequence[PartitionStatus]:
        """The partitions as read before the last scrape; empty if that failed."""
        return self._latest.partitions if self._latest else []

    async def now(self) -> Reading:
        # Kept for `collect`, which can't await.
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
        """All of them, in order."""
        return list(self.of.values())

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


_Value = Callable[[PartitionStatus], float | None]


def _owned(status: PartitionStatus) -> float | None:
    return None if status.owner_unknown else status.owner is not None


_GAUGES: Final[tuple[tuple[str, str, _Value], ...]] = (
    (
        "bank_partition_lag_events",
        "Events in MongoDB that are not in the live index yet; NaN: not known",
        lambda status: status.lag_events,
    ),
    (
        "bank_partition_lag_seconds",
        "Age of the oldest event in MongoDB that is not in the live index yet; NaN: not known",
        lambda status: status.lag_seconds,
    ),
    (
        "bank_partition_lag_known",
        "1 if the lag of the partition is known, else 0",
        lambda status: status.lag_events is not None,
    ),
    (
        "bank_partition_owned",
        "1 if a worker holds the lease of the partition, else 0; NaN: not known",
        _owned,
    ),
    (
        "bank_partition_epoch",
        "Highest epoch of the partition; NaN: not known, or no worker has ever had it",
        lambda status: status.epoch,
    ),
    (
        "bank_parked_accounts",
        "Accounts of the partition with an event that can't be applied; NaN: not known",
        lambda status: status.parked,
    ),
)


def families(statuses: Mapping[str, Iterable[PartitionStatus]]) -> Iterator[Metric]:
    """A family for each figure, with a sample for each projection and partition."""
    every = [(name, status) for name, found in statuses.items() for status in found]
    for name, meaning, value_of in _GAUGES:
        family = GaugeMetricFamily(name, meaning, labels=["projection", "partition"])
        for projection, status in every:
            value = value_of(status)
            labels = [projection, str(status.partition)]
            family.add_metric(labels, math.nan if value is None else value)
        yield family
