"""The rebuild agent of a worker: carries out the current rebuild job in the partitions it owns.

It reads the job when there is news of it, several times a second while one is under way, and at
once when it has advanced the job itself. For each of its partitions it runs that partition's part;
when the partition is acquired again, here or by another worker, its part goes on where it was.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Literal, Self

from pipeline.agents.context import OwnedPartition
from pipeline.agents.partition_processor import PartitionProcessor
from pipeline.agents.projection_runner import ProjectionRunner
from pipeline.agents.rebuild.build import OnlineBuild
from pipeline.agents.rebuild.coordinator import Coordinator
from pipeline.agents.rebuild.inplace import InPlaceRebuild
from pipeline.coordination.leases import Lease, LeaseUnavailable
from pipeline.messaging.news import News
from pipeline.search import Generation, GenerationGone
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from pipeline.support.throttle import Throttle
from pipeline.tables.checkpoints import CheckpointFenced, PositionLost
from pipeline.tables.rebuild_job import RebuildJob

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25
DETACH_SECONDS: Final = 3.0
"""How long a batch may take to end before a rebuild that is over; then it is interrupted."""
LEASE: Final = "rebuild"

Step = Literal["run", "promote"]
"""Do the partition's part; or, after the alias swap, write the new generation alone."""


class _Work:
    """A step of the job in one partition, and the task that does it."""

    def __init__(self, job: RebuildJob, step: Step, part: OnlineBuild | InPlaceRebuild) -> None:
        self._wanted, self._part = _wanted(job, step), part
        self.task = asyncio.create_task(part.run() if step == "run" else part.promote())

    def is_current(self, job: RebuildJob, step: Step) -> bool:
        """Whether it is this step of the job, under way or done, and needn't be repeated."""
        if _wanted(job, step) != self._wanted:
            return False
        if not self.task.done():
            return True
        return not self.failed and (step == "promote" or self._part.is_current)

    @property
    def failed(self) -> bool:
        return self.task.cancelled() or self.task.exception() is not None


def _wanted(job: RebuildJob, step: Step) -> tuple[str, str | None, Step]:
    # With the index: a job that failed and was started again keeps its id, but may have another.
    return job.id, job.uuid, step


class RebuildAgent:
    """The agent of one projection runner; an async context manager that runs it."""

    def __init__(
        self, settings: Settings, runner: ProjectionRunner, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._context = context = runner.context
        self._poll_seconds = poll_seconds
        self._processors: Mapping[int, PartitionProcessor] = runner.processors
        self._lease = Lease(
            settings.redis, context.projection.named(LEASE), context.owner, settings.lease_seconds
        )
        self._coordinator = Coordinator(context, self._lease, settings.rebuild_grace_seconds)
        self._throttle = Throttle(settings.rebuild_rate, lambda: context.counters.batch_at)
        self._works: dict[int, _Work] = {}
        self._concurrency, self._concurrency_of = asyncio.Semaphore(1), ""
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)
        for partition in list(self._works):
            await self._stop(partition)
        with suppress(LeaseUnavailable):
            await self._lease.release()
        await self._lease.close()

    async def _follow(self) -> None:
        async with self._context.jobs.news() as news:
            await Outage(log, "the rebuild").every(0, lambda: self._round(news))

    async def _round(self, news: News) -> None:
        self._ended.clear()  # first: a part that ends during this round shortens the pause after it
        await self._context.jobs.refresh()
        await self._carry_on(self._context.jobs.current)
        if self._is_quiet():
            await news.wait(self._poll_seconds)
        elif not await self._job_changed():
            await self._pause()

    def _is_quiet(self) -> bool:
        """Whether nothing is to be done until somebody writes a job."""
        waiting = [
            job for job in self._context.jobs.all() if job.phase != "failed" and not job.dropped
        ]
        owned = (each.owned for each in self._processors.values())
        return not waiting and not any(each and each.building for each in owned)

    async def _job_changed(self) -> bool:
        """Whether a job has changed during this round, so that there is more to do."""
        return any(key.startswith("job.") for key in await self._context.jobs.refresh())

    async def _pause(self) -> None:
        """Wait a moment, or until every part that is under way here has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._ended.wait()

    def _note_end(self, _: asyncio.Task[None]) -> None:
        if all(work.task.done() and not work.failed for work in self._works.values()):
            self._ended.set()

    async def _carry_on(self, job: RebuildJob | None) -> None:
        for partition in self._works.keys() - self._processors.keys():
            await self._stop(partition)
        if job is None:
            return
        if not job.is_for(self._context.projection):
            return  # for workers of another version of the projection
        if job.of == self._context.partitions and job.phase not in ("cancelled", "failed"):
            await self._run_parts(job)
        else:
            await self._abandon()
        await self._coordinator.step(job)

    # ---------------------------------------------------------------- this worker's partitions

    async def _run_parts(self, job: RebuildJob) -> None:
        """Start the step that is due in each of our partitions, unless it runs or is done."""
        step: Step = "run" if job.phase in ("wanted", "building") else "promote"
        if job.kind == "online" and job.phase == "wanted":
            return  # the generation is not created yet
        for partition, processor in list(self._processors.items()):
            if partition not in job.partitions or not _due(job, processor.owned):
                continue
            work = self._works.get(partition)
            if work is not None and work.is_current(job, step):
                continue
            if work is not None:
                await self._stop(partition)
            self._works[partition] = work = _Work(job, step, self._part(job, processor))
            work.task.add_done_callback(self._note_end)

    def _part(self, job: RebuildJob, processor: PartitionProcessor) -> OnlineBuild | InPlaceRebuild:
        if self._concurrency_of != job.id:
            self._concurrency = asyncio.Semaphore(max(1, job.concurrency))
            self._concurrency_of = job.id
        part = self._context.jobs.part(job, processor.partition)
        kind: type[OnlineBuild] | type[InPlaceRebuild] = (
            OnlineBuild if job.kind == "online" else InPlaceRebuild
        )
        return kind(processor, self._context, job, part, self._concurrency, self._throttle)

    async def _stop(self, partition: int) -> None:
        work = self._works.pop(partition)
        await cancel_and_wait(work.task)
        error = None if work.task.cancelled() else work.task.exception()
        if isinstance(error, CheckpointFenced) and partition in self._processors:
            self._processors[partition].reacquire(error)
        elif error is not None and not isinstance(error, PositionLost | GenerationGone):
            log.warning(
                "partition %d: its part of the rebuild failed and is repeated: %r", partition, error
            )

    async def _abandon(self) -> None:
        """The job was cancelled or failed: write the live generation alone."""
        for partition in list(self._works):
            await self._stop(partition)
        for partition, processor in list(self._processors.items()):
            if processor.owned is not None and processor.owned.building is not None:
                try:
                    async with asyncio.timeout(DETACH_SECONDS):
                        dropped = await processor.between(_detach)
                except TimeoutError:  # it waits for the very index that is to be left
                    processor.reacquire(PositionLost("a rebuild is over that could not be written"))
                    continue
                if dropped is not None:
                    self._context.checkpoints.forget_generation(partition, dropped)


def _due(job: RebuildJob, owned: OwnedPartition | None) -> bool:
    if owned is None:
        return False
    if job.phase == "done":  # this worker is late to promote
        return job.kind == "online" and owned.building is not None
    return job.kind == "online" or job.active


async def _detach(owned: OwnedPartition) -> Generation | None:
    building, owned.building = owned.building, None
    return building.generation if building is not None else None
