"""Reads the whole pipeline at a glance, one reading at a time.

All servers are asked at the same time, and a reading ends in about three seconds, whatever is down.
It takes no scan: each count is one that a server keeps anyway, or one of what waits.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pipeline.coordination.leases import FORWARDER
from pipeline.coordination.worker_registry import RegistryReader
from pipeline.eventstore import EventStore
from pipeline.model.projection import Projection
from pipeline.operations.status import overview
from pipeline.operations.status.overview import Count, Overview
from pipeline.operations.status.partitions import Reading
from pipeline.operations.status.probe import Unknown, asked, why
from pipeline.operations.status.rates import Rate
from pipeline.operations.status.reader import Log, StatusReader
from pipeline.operations.status.recent_rebuild import recent
from pipeline.support.logs import moment
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_jobs import RebuildJobs

Read = Callable[[], Awaitable[Reading]]

_PATIENCE: Final = 2.2
"""Seconds from the beginning of a reading until which there must be answers."""


class PipelineMonitor:
    """Remembers what it read last, for rates. `read_each` has how to read the partitions of each
    projection, the one that is shown first."""

    def __init__(
        self,
        settings: Settings,
        read_each: Mapping[Projection, Read],
        onlooker: StatusReader,
        store: Callable[[], EventStore],
    ) -> None:
        self._read_each, self._onlooker, self._store = read_each, onlooker, store
        self._replicas = settings.stream_replicas
        self._registry = RegistryReader(settings.redis, "overseer", settings.lease_seconds)
        self._rates: defaultdict[str, Rate] = defaultdict(Rate)
        self._jobs: list[RebuildJobs] = []

    async def close(self) -> None:
        await self._registry.close()

    async def read(self) -> Overview:
        """As it stands now, or later by as long as it takes."""
        at, until = moment(time.time()), asyncio.get_running_loop().time() + _PATIENCE
        count, log, roll, leader, rebuild, readings = await asyncio.gather(
            asked("MongoDB", self._stored(), until),
            asked("NATS", self._onlooker.stream(), until),
            asked("Redis", self._registry.registry(), until),
            asked("Redis", self._registry.holder(FORWARDER), until),
            asked("NATS", self._rebuild(), until),
            asyncio.gather(*(read() for read in self._read_each.values())),
        )
        first = readings[0]
        stored = overview.stored(count, self._stored_rate(count))
        workers, unknown = overview.attending(roll, first.partitions, self._registry.seconds)
        return Overview(
            at,
            [
                overview.server("mongodb", count),
                overview.server("nats", log),
                overview.server("redis", roll),
                overview.server("elasticsearch", _elasticsearch(first)),
            ],
            stored,
            overview.forwarded(stored, first.unforwarded, log, self._forwarded_rate(log)),
            [
                overview.projected(each.name, reading, self._projected_rate(each.name, reading))
                for each, reading in zip(self._read_each, readings, strict=True)
            ],
            overview.forwarder(leader),
            workers,
            unknown,
            first.partitions,
            None if isinstance(rebuild, Unknown) else rebuild,
            why(rebuild),
        )

    async def _stored(self) -> Count:
        return Count(await self._store().estimate(), asyncio.get_running_loop().time())

    async def _rebuild(self) -> dict[str, Any] | None:
        js = await self._onlooker.jetstream()
        if not self._jobs:
            self._jobs = [
                RebuildJobs(js, each, replicas=self._replicas) for each in self._read_each
            ]
        await asyncio.gather(*(jobs.refresh() for jobs in self._jobs))
        return recent(self._jobs, datetime.now(UTC))

    def _stored_rate(self, count: Count | Unknown) -> float | None:
        rate = self._rates["stored"]
        if isinstance(count, Unknown):
            return rate.after(None)
        return rate.after(count.events, count.at)

    def _forwarded_rate(self, log: Log | Unknown) -> float | None:
        rate = self._rates["forwarded"]
        if isinstance(log, Unknown):
            return rate.after(None)
        return rate.after(log.given, log.at, of=log.state.created)

    def _projected_rate(self, projection: str, reading: Reading) -> float | None:
        rate, log = self._rates[f"projected {projection}"], reading.log
        if log is None or isinstance(reading.unapplied, Unknown):
            return rate.after(None)
        return rate.after(log.given - reading.unapplied.events, log.at, of=log.state.created)


def _elasticsearch(reading: Reading) -> Unknown | None:
    """Each reading asks it, whatever else is down."""
    if "Elasticsearch" in reading.silent:
        return Unknown("Elasticsearch does not answer", "Elasticsearch")
    return None
