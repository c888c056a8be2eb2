"""All processes of an application, in one worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.eventstore import EventStore
from pipeline.processes.metrics import ProcessMetrics
from pipeline.processes.runner import ProcessRunner
from pipeline.support.cancellation import running
from pipeline.support.metrics import Metrics
from pipeline.support.readiness import Checks
from pipeline.support.settings import Settings


class Processes:
    """`owner`: the worker's name; `store`: the worker's, which the caller closes after them."""

    def __init__(self, settings: Settings, store: EventStore, owner: str, metrics: Metrics) -> None:
        shown = ProcessMetrics(metrics.registry) if settings.chosen.processes else None
        self._runners = [
            ProcessRunner(settings, store, each, owner, shown) for each in settings.chosen.processes
        ]
        for runner in self._runners:
            metrics.refresh_with(runner.refresh)
        self.checks: Checks = {f"process {each.process.name}": each.ready for each in self._runners}
        """Of the worker's readiness."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the body runs, those whose leases are ours run, too."""
        async with running(*(each.run() for each in self._runners)):
            yield
