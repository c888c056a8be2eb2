"""A partition's part in a rebuild, online or in place, done by the partition's owner."""

import asyncio
from dataclasses import replace

from pipeline.agents.context import OwnedPartition, ProjectionContext
from pipeline.agents.partition_processor import PartitionProcessor
from pipeline.model.events import slots_of
from pipeline.support.throttle import Throttle
from pipeline.tables.checkpoints import PositionLost
from pipeline.tables.rebuild_job import RebuildJob, RebuildPart


class PartitionRebuild:
    """What both kinds begin with. `run` and `promote` are theirs."""

    def __init__(
        self,
        processor: PartitionProcessor,
        context: ProjectionContext,
        job: RebuildJob,
        part: RebuildPart,
        concurrency: asyncio.Semaphore,
        throttle: Throttle,
    ) -> None:
        self._processor, self._context, self._job = processor, context, job
        self._concurrency, self._throttle = concurrency, throttle
        self._slots = slots_of(processor.partition, context.partitions)
        self._part = replace(part, owner=context.owner)

    def _require_owned(self) -> OwnedPartition:
        """The partition, if it is acquired; raises `PositionLost`."""
        if self._processor.owned is None:
            raise PositionLost("the partition is being acquired")
        return self._processor.owned

    async def _total(self) -> int:
        """How many events are to be replayed."""
        return await self._throttle.gently(lambda: self._context.store.count(self._slots))
