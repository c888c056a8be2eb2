"""Rebuilds in `/metrics`, read before each scrape. An unknown figure is NaN, which no alert rule
takes for 0."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from api.balances.rebuilds import Rebuilds
from pipeline.operations.status.rebuild_progress import total_progress
from pipeline.tables.rebuild_job import RebuildJob, RebuildPart
from pipeline.tables.rebuild_jobs import RebuildJobs

_PHASES: Final = ("wanted", "building", "swapped")
_STATES: Final = ("waiting", "replaying", "replayed", "done")
_WHOLE: Final = -1


@dataclass(frozen=True, slots=True)
class Running:
    """A rebuild under way: `done` of `total` events are replayed, and no progress was made for so
    many seconds, as far as this process has seen."""

    done: int
    total: int
    still_seconds: float


class StallWatch:
    """Notices when the last rebuild of a projection makes no progress.

    It remembers the furthest point of each partition: one that starts again makes progress only
    beyond that point. Time counts from the first update, by one clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._job: tuple[str, str | None] | None = None
        self._furthest: dict[int, tuple[int, int]] = {}
        self._since = 0.0

    def update(self, job: RebuildJob | None, parts: Sequence[RebuildPart]) -> Running | None:
        """The progress as it is now; None when no rebuild is under way."""
        if job is None or not job.active:
            self._job = None
            return None
        if self._job != (job.id, job.uuid):
            self._job, self._furthest = (job.id, job.uuid), {}
        if self._progressed(job, parts):
            self._since = self._clock()
        whole = total_progress(job, parts)
        return Running(whole.done, whole.total, self._clock() - self._since)

    def _progressed(self, job: RebuildJob, parts: Sequence[RebuildPart]) -> bool:
        now = {part.partition: (_STATES.index(part.state), part.done) for part in parts}
        now[_WHOLE] = (_PHASES.index(job.phase), 0)
        before = self._furthest
        self._furthest = {each: max(at, before.get(each, at)) for each, at in now.items()}
        return self._furthest != before


_Value = Callable[[Running | None], float]

_GAUGES: Final[tuple[tuple[str, str, _Value], ...]] = (
    (
        "bank_rebuild_running",
        "1 while a rebuild of the projection is under way, else 0; NaN: not known",
        lambda seen: seen is not None,
    ),
    (
        "bank_rebuild_events",
        "Events to be replayed by the rebuild that is under way; NaN: none is, or not known",
        lambda seen: math.nan if seen is None else seen.total,
    ),
    (
        "bank_rebuild_events_replayed",
        "Events that it has replayed; NaN: none is under way, or not known",
        lambda seen: math.nan if seen is None else seen.done,
    ),
    (
        "bank_rebuild_still_seconds",
        "Seconds, as far as this service has seen, that it has come no further; "
        "NaN: none is under way, or not known",
        lambda seen: math.nan if seen is None else seen.still_seconds,
    ),
)


def families(projections: Sequence[str], known: Mapping[str, Running | None]) -> Iterator[Metric]:
    """A family for each figure, with a sample for each projection; those not `known` are NaN."""
    for name, meaning, value_of in _GAUGES:
        family = GaugeMetricFamily(name, meaning, labels=["projection"])
        for each in projections:
            family.add_metric([each], value_of(known[each]) if each in known else math.nan)
        yield family


class RebuildFigures:
    """The collector of their metrics, for the service's lifetime."""

    def __init__(self, rebuilds: Rebuilds, projections: Iterable[str]) -> None:
        self._rebuilds = rebuilds
        self._watches = {name: StallWatch() for name in projections}
        self._known: Mapping[str, Running | None] = {}

    async def refresh(self) -> None:
        """Read the rebuilds before a scrape."""
        # Before the request: if it fails, the figures are unknown and not old.
        self._known = {}
        async with self._rebuilds.now() as everything:
            self._known = {each.projection.name: self._progress_of(each) for each in everything}

    def collect(self) -> Iterator[Metric]:
        return families(list(self._watches), self._known)

    def _progress_of(self, jobs: RebuildJobs) -> Running | None:
        job = jobs.current
        return self._watches[jobs.projection.name].update(job, jobs.parts(job) if job else [])
