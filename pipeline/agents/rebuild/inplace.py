"""One partition's part in a rebuild in place: every document of it made what the store says.

Nothing stands still for it. What differs is written over in a higher era, and versions decide every
race with live events; it may be begun anew at any time.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace

from pipeline.agents.backfill import BackfillProgress
from pipeline.agents.context import ProjectionContext
from pipeline.agents.partition_processor import PartitionProcessor
from pipeline.agents.rebuild.repair import repair_partition
from pipeline.agents.rebuild.throttle import Throttle, ThrottledStore
from pipeline.model.events import slots_of
from pipeline.search.scan import IndexScan
from pipeline.support.cancellation import cancel_and_wait
from pipeline.tables.checkpoints import PositionLost
from pipeline.tables.counters import Counters
from pipeline.tables.documents import AccountDocuments
from pipeline.tables.rebuild_job import RebuildJob, RebuildPart
from pipeline.tables.versioned_document import DocumentCache


class InPlaceRebuild:
    """Raises `PositionLost` when the partition is not ours, and what mending raises."""

    stands = True

    def __init__(
        self,
        processor: PartitionProcessor,
        context: ProjectionContext,
        job: RebuildJob,
        part: RebuildPart,
        gate: asyncio.Semaphore,
        pace: Throttle,
    ) -> None:
        self._processor, self._context = processor, context
        self._gate, self._pace = gate, pace
        self._slots = slots_of(processor.partition, context.partitions)
        self._part = replace(part, owner=context.owner)
        self._telling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Mend the partition."""
        if self._part.state == "done":
            return
        async with self._gate:
            owned, context = self._processor.owned, self._context
            if owned is None:
                raise PositionLost("the partition is being taken")
            documents = AccountDocuments(
                context.elastic,
                owned.live.generation,
                context.store,
                context.parked,
                Counters(),
                DocumentCache(0),
            )
            total = await self._pace.gently(lambda: context.store.count(self._slots))
            self._part = replace(self._part, state="replaying", total=total)
            survey = IndexScan(context.elastic.access, documents.alias)
            try:
                store = ThrottledStore(context.store, self._pace)
                mended = await repair_partition(
                    self._slots, store, documents, survey, self._progress
                )
            finally:
                await survey.close()
                if self._telling is not None:
                    await cancel_and_wait(self._telling)  # or it would take back what comes now
            self._part = replace(self._part, state="done", removed=mended.removed)
            await context.jobs.note(self._part)  # that makes the job done, so it must be told

    async def turn(self) -> None:
        """There is no other generation to turn to."""

    def _progress(self, progress: BackfillProgress) -> None:
        rate = progress.events / max(0.001, progress.seconds)
        part = replace(self._part, done=progress.events, events_per_second=round(rate, 1))
        self._part = part
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(part))

    async def _tell(self, part: RebuildPart) -> None:
        with suppress(Exception):  # it is for people, and told again in a moment
            await self._context.jobs.note(part)
