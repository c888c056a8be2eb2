"""Reads the status of the whole pipeline.

A reading probes all servers at the same time and ends in about three seconds, whatever is down. It
scans nothing where the servers keep the counts it asks for. The embedded MongoDB keeps none: the
monitor asks it to count a tenth of the time at most.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pipeline.coordination.leases import FORWARDER
from pipeline.coordination.worker_registry import RegistryReader
from pipeline.eventstore import EventStore
from pipeline.model.projection import Projection
from pipeline.operations.status import overview
from pipeline.operations.status.overview import Count, Overview
from pipeline.operations.status.partitions import Reading
from pipeline.operations.status.probe import Unknown, probe, why
from pipeline.operations.status.reader import Log, StatusReader
from pipeline.operations.status.rebuild_progress import as_json
from pipeline.support.logs import moment
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_job import RebuildJob
from pipeline.tables.rebuild_jobs import RebuildJobs

Read = Callable[[], Awaitable[Reading]]

_PATIENCE: Final = 2.2
"""Seconds from the start of a reading until which the servers must have answered."""
_REST: Final = 9
"""For how many times its own duration a count of the events is used before the next one."""


class PipelineMonitor:
    """Remembers the last reading, for rates. `read_each`: for each projection, how to read
    its partitions; the overview shows those of the first one."""

    def __init__(
        self,
        settings: Settings,
        read_each: Mapping[Projection, Read],
        reader: StatusReader,
        store: Callable[[], EventStore],
    ) -> None:
        self._read_each, self._reader, self._store = read_each, reader, store
        self._registry = RegistryReader(settings.redis, "pipeline-monitor", settings.lease_seconds)
        self._rates: defaultdict[str, Rate] = defaultdict(Rate)
        self._jobs: list[RebuildJobs] = []
        self._count: Count | None = None
        self._count_next = 0.0

    async def close(self) -> None:
        await self._registry.close()

    async def read(self) -> Overview:
        """The status at the time of the call, or up to three seconds later."""
        at, until = moment(time.time()), asyncio.get_running_loop().time() + _PATIENCE
        count, log, registry, leader, rebuild, readings = await asyncio.gather(
            probe("MongoDB", self._stored(), until),
            probe("NATS", self._reader.stream(), until),
            probe("Redis", self._registry.registry(), until),
            probe("Redis", self._registry.holder(FORWARDER), until),
            probe("NATS", self._rebuild(), until),
            asyncio.gather(*(read() for read in self._read_each.values())),
        )
        first = readings[0]
        stored = overview.stored(count, self._stored_rate(count))
        workers, unknown = overview.registered_workers(
            registry, first.partitions, self._registry.seconds
        )
        return Overview(
            at,
            [
                overview.server("mongodb", count),
                overview.server("nats", log),
                overview.server("redis", registry),
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
        """Some servers count the events one by one: they are not asked for that again at once."""
        clock = asyncio.get_running_loop().time
        known, began = self._count, clock()
        if known is not None and began < self._count_next:
            await self._store().ping()
            return known
        # Forget the old count first: if counting fails, the next reading must not show it.
        self._count = None
        self._count = Count(await self._store().estimate(), clock())
        self._count_next = clock() + _REST * (clock() - began)
        return self._count

    async def _rebuild(self) -> dict[str, Any] | None:
        js = await self._reader.jetstream()
        # At the first answer of NATS: the monitor is made before there is a connection.
        if not self._jobs:
            self._jobs = [RebuildJobs(js, each) for each in self._read_each]
        await asyncio.gather(*(jobs.refresh() for jobs in self._jobs))
        return recent_rebuild(self._jobs, datetime.now(UTC))

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
    """Every reading probes it, whatever else is down, so one that fails is known to be down."""
    why = reading.failed.get("Elasticsearch")
    return Unknown(why, "Elasticsearch") if why else None


_SPAN: Final = 5.0
_LONGEST: Final = 30.0


class Rate:
    """The rate of one count that is read now and then."""

    def __init__(self) -> None:
        self._read: deque[tuple[float, int]] = deque()
        self._of: object = None

    def after(self, count: int | None, at: float = 0.0, of: object = None) -> float | None:
        """The rate, now that the count was read at that second of some clock; None: not known yet.

        It spans the last 5 seconds, or the time since the reading before if that is at most 30
        seconds ago. A failed reading (None), or a count of another thing (`of`), starts again. A
        count that went down has the rate 0.
        """
        if count is None or of != self._of:
            self._read.clear()
        self._of = of
        if count is None:
            return None
        if not self._read or at > self._read[-1][0]:
            self._read.append((at, count))
        self._forget(at)
        (began, before), (ended, now) = self._read[0], self._read[-1]
        return round(max(0, now - before) / (ended - began), 1) if ended > began else None

    def _forget(self, now: float) -> None:
        while len(self._read) > 2 and self._read[1][0] <= now - _SPAN:
            self._read.popleft()
        if len(self._read) > 1 and self._read[0][0] < now - _LONGEST:
            self._read.popleft()


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
