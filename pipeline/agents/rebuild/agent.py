"""The rebuild agent of a worker: follows the rebuild that is asked for, in the partitions it owns.

It looks at the job a few times a second, and at once when it has carried it on itself. For each of
its partitions it runs that partition's part, again from where it was whenever the partition was
acquired again; whoever owns a partition does it.
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
from pipeline.agents.rebuild.throttle import Throttle
from pipeline.coordination.leases import Lease, LeaseUnavailable
from pipeline.search import Generation, GenerationGone
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from pipeline.tables.checkpoints import CheckpointFenced, PositionLost
from pipeline.tables.rebuild_job import RebuildJob

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.25
LEASE: Final = "rebuild"

Step = Literal["run", "turn"]
"""Bring a partition's part about; or turn to the generation that readers see now."""


class _Work:
    """A step of the job in one partition, and the task that does it."""

    def __init__(self, job: RebuildJob, step: Step, part: OnlineBuild | InPlaceRebuild) -> None:
        self._of, self._part = _asked(job, step), part
        self.task = asyncio.create_task(part.run() if step == "run" else part.turn())

    def stands(self, job: RebuildJob, step: Step) -> bool:
        """Whether it is under way, or done, and still what is to be done."""
        if _asked(job, step) != self._of:
            return False
        if not self.task.done():
            return True
        return not self.failed and (step == "turn" or self._part.stands)

    @property
    def failed(self) -> bool:
        return self.task.cancelled() or self.task.exception() is not None


def _asked(job: RebuildJob, step: Step) -> tuple[str, str | None, Step]:
    """A job that failed and was started again is the same, but its generation may be another."""
    return job.id, job.uuid, step


class RebuildAgent:
    """One worker's; an async context manager that runs it."""

    def __init__(
        self, settings: Settings, runner: ProjectionRunner, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._context = context = runner.context
        self._look_seconds = look_seconds
        self._processors: Mapping[int, PartitionProcessor] = runner.processors
        self._lease = Lease(
            settings.redis, context.projection.named(LEASE), context.owner, settings.lease_seconds
        )
        self._coordinator = Coordinator(context, self._lease, settings.rebuild_grace_seconds)
        self._pace = Throttle(settings.rebuild_rate, lambda: context.counters.batch_at)
        self._works: dict[int, _Work] = {}
        self._gate, self._gate_of = asyncio.Semaphore(1), ""
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)
        for partition in list(self._works):
            await self._stop(partition)
        with suppress(LeaseUnavailable):
            await self._lease.release()
        await self._lease.close()

    async def _run(self) -> None:
        outage, attempt = Outage(log, "the rebuild"), 0
        while True:
            self._ended.clear()
            try:
                await self._context.jobs.refresh()
                await self._look(self._context.jobs.current)
                if not await self._moved():
                    await self._pause()
            except Exception as error:
                await outage.pause(error, attempt)
                attempt += 1
            else:
                outage.over()
                attempt = 0

    async def _moved(self) -> bool:
        """Whether a job is not any more as it was looked at: there is more to be done."""
        return any(key.startswith("job.") for key in await self._context.jobs.refresh())

    async def _pause(self) -> None:
        """A moment, or until all that is under way here has come to its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._look_seconds):
                await self._ended.wait()

    def _note_end(self, _: asyncio.Task[None]) -> None:
        if all(work.task.done() and not work.failed for work in self._works.values()):
            self._ended.set()

    async def _look(self, job: RebuildJob | None) -> None:
        for partition in self._works.keys() - self._processors.keys():
            await self._stop(partition)
        if job is None:
            return
        if job.version not in (0, self._context.projection.version):
            return  # other workers know how
        if job.of == self._context.partitions and job.phase not in ("cancelled", "failed"):
            await self._follow(job)
        else:
            await self._leave()
        await self._coordinator.step(job)

    # ---------------------------------------------------------------- this worker's partitions

    async def _follow(self, job: RebuildJob) -> None:
        """Have the step that is due under way, or done, in each of our partitions."""
        step: Step = "run" if job.phase in ("wanted", "building") else "turn"
        if job.kind == "online" and job.phase == "wanted":
            return  # the generation is not made yet
        for partition, processor in list(self._processors.items()):
            if partition not in job.partitions or not _due(job, processor.owned):
                continue
            work = self._works.get(partition)
            if work is not None and work.stands(job, step):
                continue
            if work is not None:
                await self._stop(partition)
            self._works[partition] = work = _Work(job, step, self._part(job, processor))
            work.task.add_done_callback(self._note_end)

    def _part(self, job: RebuildJob, processor: PartitionProcessor) -> OnlineBuild | InPlaceRebuild:
        if self._gate_of != job.id:
            self._gate, self._gate_of = asyncio.Semaphore(max(1, job.concurrency)), job.id
        part = self._context.jobs.part(job, processor.partition)
        kind: type[OnlineBuild] | type[InPlaceRebuild] = (
            OnlineBuild if job.kind == "online" else InPlaceRebuild
        )
        return kind(processor, self._context, job, part, self._gate, self._pace)

    async def _stop(self, partition: int) -> None:
        work = self._works.pop(partition)
        await cancel_and_wait(work.task)
        error = None if work.task.cancelled() else work.task.exception()
        if isinstance(error, CheckpointFenced) and partition in self._processors:
            self._processors[partition].reacquire(error)
        elif error is not None and not isinstance(error, PositionLost | GenerationGone):
            log.warning("partition %d: the rebuild stopped, it goes on: %r", partition, error)

    async def _leave(self) -> None:
        """The job came to nothing: write the live generation alone."""
        for partition in list(self._works):
            await self._stop(partition)
        for partition, processor in list(self._processors.items()):
            if processor.owned is not None and processor.owned.building is not None:
                dropped = await processor.between(_detach)
                if dropped is not None:
                    self._context.checkpoints.forget_generation(partition, dropped)


def _due(job: RebuildJob, owned: OwnedPartition | None) -> bool:
    if owned is None:
        return False
    if job.phase == "done":  # whoever turns late
        return job.kind == "online" and owned.building is not None
    return job.kind == "online" or job.active


async def _detach(owned: OwnedPartition) -> Generation | None:
    building, owned.building = owned.building, None
    return building.generation if building is not None else None
