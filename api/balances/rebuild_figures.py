"""Rebuilds in `/metrics`: read before each scrape. Without an answer the figures are unknown."""

from collections.abc import Iterable, Iterator, Mapping

from api.balances.rebuilds import Rebuilds
from pipeline.operations.status.rebuild_metrics import Running, StallWatch, families
from pipeline.support.metrics import Metric
from pipeline.tables.rebuild_jobs import RebuildJobs


class RebuildFigures:
    """The collector of their metrics, for the service's lifetime."""

    def __init__(self, rebuilds: Rebuilds, projections: Iterable[str]) -> None:
        self._rebuilds = rebuilds
        self._watches = {name: StallWatch() for name in projections}
        self._known: Mapping[str, Running | None] = {}

    async def refresh(self) -> None:
        """Read the rebuilds before a scrape."""
        self._known = {}
        async with self._rebuilds.now() as everything:
            self._known = {each.projection.name: self._progress_of(each) for each in everything}

    def collect(self) -> Iterator[Metric]:
        return families(list(self._watches), self._known)

    def _progress_of(self, jobs: RebuildJobs) -> Running | None:
        job = jobs.current
        return self._watches[jobs.projection.name].update(job, jobs.parts(job) if job else [])
