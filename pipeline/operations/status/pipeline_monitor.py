"""Reads the status of the whole pipeline.

A reading probes all servers at the same time and ends in about three seconds, whatever is down. It
scans nothing where the servers keep the counts it asks for; for those that do not, see
`stored_count.py`.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from pipeline.coordination.leases import FORWARDER
from pipeline.coordination.worker_registry import RegistryReader
from pipeline.eventstore import EventStore
from pipeline.model.projection import Projection
from pipeline.operations.status import overview
from pipeline.operations.status.instances import Instances
from pipeline.operations.status.last_hour import LastHour
from pipeline.operations.status.lateness import Lateness
from pipeline.operations.status.overview import Count, Overview
from pipeline.operations.status.partitions import Reading
from pipeline.operations.status.probe import Unknown, probe, why
from pipeline.operations.status.rate import Rate
from pipeline.operations.status.reader import Log, StatusReader
from pipeline.operations.status.rebuild_progress import as_json
from pipeline.operations.status.servers import Verdicts
from pipeline.operations.status.stored_count import Reached, StoredCount, reached
from pipeline.support.cancellation import close_all
from pipeline.support.logs import moment
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_job import RebuildJob
from pipeline.tables.rebuild_jobs import RebuildJobs

Read = Callable[[], Awaitable[Reading]]

_PATIENCE: Final = 2.2
"""Seconds from the start of a reading until which the servers must have answered."""


class PipelineMonitor:
    """Remembers the last readings. `read_each`: for each projection, how to read its partitions;
    the overview shows those of the first one. `elasticsearch_answered`: when it answered other
    readers last, on the event loop's clock."""

    def __init__(
        self,
        settings: Settings,
        read_each: Mapping[Projection, Read],
        reader: StatusReader,
        store: Callable[[], EventStore],
        elasticsearch_answered: Callable[[], float] = lambda: -math.inf,
    ) -> None:
        self._read_each, self._reader = read_each, reader
        self._registry = RegistryReader(settings.redis, "pipeline-monitor", settings.lease_seconds)
        self._rates: defaultdict[str, Rate] = defaultdict(Rate)
        self._jobs: list[RebuildJobs] = []
        self._stored = StoredCount(store)
        self._instances = Instances()
        self._lateness: defaultdict[str, Lateness] = defaultdict(Lateness)
        self.hour = LastHour()
        """Of all readings."""
        self._verdicts = Verdicts({"elasticsearch": elasticsearch_answered})

    async def close(self) -> None:
        await close_all(self._registry.close, self._stored.close)

    async def read(self, *, looked_at: bool = True) -> Overview:
        """The status at the time of the call, or up to three seconds later. Unless somebody looks
        at it, the number of events may be missing, but not their rate."""
        now, began = time.time(), asyncio.get_running_loop().time()
        until = began + _PATIENCE
        count, log, (registry, leader), rebuild, asked, readings = await asyncio.gather(
            probe("MongoDB", partial(self._stored.read, looked_at=looked_at), until),
            probe("NATS", self._reader.stream, until),
            asyncio.gather(
                probe("Redis", self._registry.registry, until),
                probe("Redis", partial(self._registry.holder, FORWARDER), until),
            ),
            probe("NATS", self._rebuild, until),
            probe("NATS", self._ask, until),
            asyncio.gather(*(read() for read in self._read_each.values())),
        )
        first = readings[0]
        so_far = reached(first)
        if isinstance(count, Count):
            count = self._stored.grown(count, so_far)
        stored = overview.stored(count, self._stored_rate(count, so_far))
        workers, unknown = overview.registered_workers(
            registry, first.partitions, self._registry.seconds
        )
        instances, instances_unknown = self._instances.read(asked)
        found = Overview(
            moment(now),
            [
                self._verdicts.judge("mongodb", began, count, *_of_store(readings)),
                self._verdicts.judge("nats", began, log, rebuild),
                self._verdicts.judge("redis", began, registry, leader, *_of("Redis", readings)),
                self._verdicts.judge("elasticsearch", began, *_of("Elasticsearch", readings)),
            ],
            self._instances.commands(instances_unknown),
            stored,
            overview.forwarded(stored, first.unforwarded, log, self._forwarded_rate(log)),
            [
                overview.projected(
                    each.name,
                    reading,
                    self._projected_rate(each.name, reading),
                    self._lateness[each.name].furthest(reading.partitions, now),
                )
                for each, reading in zip(self._read_each, readings, strict=True)
            ],
            overview.forwarder(leader),
            workers,
            unknown,
            instances,
            instances_unknown,
            first.partitions,
            None if isinstance(rebuild, Unknown) else rebuild,
            why(rebuild),
        )
        lags = [[each.lag_seconds for each in reading.partitions] for reading in readings]
        self.hour.note(now, overview.point(found, lags))
        return found

    async def _ask(self) -> None:
        await self._instances.ask(await self._reader.jetstream())

    async def _rebuild(self) -> dict[str, Any] | None:
        js = await self._reader.jetstream()
        # At the first answer of NATS: the monitor is made before there is a connection.
        if not self._jobs:
            self._jobs = [RebuildJobs(js, each) for each in self._read_each]
        await asyncio.gather(*(jobs.refresh() for jobs in self._jobs))
        return recent_rebuild(self._jobs, datetime.now(UTC))

    def _stored_rate(self, count: Count | Unknown, so_far: Reached | None) -> float | None:
        rate = self._rates["stored"]
        if so_far is not None:
            return rate.after(*so_far)
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


def _of(server: str, readings: Iterable[Reading]) -> list[Unknown | None]:
    """The answers of a server that every reading probes, whatever else is down."""
    return [each.silent.get(server) for each in readings]


def _of_store(readings: Iterable[Reading]) -> list[Unknown | None]:
    """The answers of MongoDB to the readings that asked it: they know where the log ends."""
    asked = [
        each
        for each in readings
        if "MongoDB" in each.silent or not isinstance(each.unforwarded, Unknown)
    ]
    return _of("MongoDB", asked)


_RECENT: Final = timedelta(minutes=10)


def recent_rebuild(everything: Iterable[RebuildJobs], now: datetime) -> dict[str, Any] | None:
    """The running rebuild of any projection, or the last one if it ended in the last ten
    minutes."""
    last = [(jobs, jobs.current) for jobs in everything]
    found = [(jobs, job) for jobs, job in last if job is not None and _is_recent(job, now)]
    if not found:
        return None
    jobs, job = max(found, key=lambda each: (each[1].active, each[1].id))
    return as_json(job, jobs.parts(job))


def _is_recent(job: RebuildJob, now: datetime) -> bool:
    if job.active:
        return True
    ended = datetime.fromisoformat(job.finished or job.started)
    return now - ended < _RECENT
