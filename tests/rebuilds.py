"""A worker that carries out rebuilds in words only: it notes parts and changes the job."""

from dataclasses import replace
from typing import Any

from pipeline.banking.balance import BALANCE
from pipeline.messaging import JetStream
from pipeline.tables.rebuild_job import Phase, RebuildJob, RebuildPart
from pipeline.tables.rebuild_jobs import RebuildJobs
from tests.harness import eventually

FINISHED = "2026-11-23T17:44:16.517Z"


class FakeWorker:
    """What workers do to a rebuild, step by step as a test says."""

    def __init__(self, js: JetStream) -> None:
        self.js, self.jobs = js, RebuildJobs(js, BALANCE)

    async def job(self) -> RebuildJob:
        """The rebuild that was started last, as it is now."""
        await self.jobs.refresh()
        assert self.jobs.current is not None, "none was started"
        return self.jobs.current

    async def wanted(self) -> RebuildJob:
        """Wait until somebody starts one."""

        async def started() -> RebuildJob | None:
            job = await self.job()
            return job if job.active else None

        job = await eventually(started)
        assert job is not None
        return job

    async def turns(self, phase: Phase, **changes: Any) -> RebuildJob:
        """The job gets into this phase."""
        job = await self.job()
        return await self.jobs.change(job.id, lambda was: replace(was, phase=phase, **changes))

    async def notes(self, partition: int, **figures: Any) -> None:
        """How far a partition is: fields of `RebuildPart`."""
        job = await self.job()
        await self.jobs.note(
            replace(
                RebuildPart(job.id, partition, owner="ann.01M84TDHC44RZBPH4QTS8MA8GC"), **figures
            )
        )

    async def carries_out(self, events: int = 10, pauses: tuple[float, ...] = (2.0,)) -> RebuildJob:
        """All of it, to the end."""
        job = await self.turns("building", generation=2, uuid="u", old=1)
        for partition in job.partitions:
            for done in (0, events // 2, events):
                state = "done" if done == events else "replaying"
                await self.notes(
                    partition,
                    state=state,
                    done=done,
                    total=events,
                    events_per_second=1000.0,
                    pauses_ms=list(pauses),
                )
        await self.turns("swapped", swapped=FINISHED)
        return await self.turns("done", finished=FINISHED)
