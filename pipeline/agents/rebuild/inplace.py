"""One partition's part in a rebuild in place: repairs every document of it from the store.

Live traffic goes on. Documents that differ are overwritten in a higher era, and versions decide
every race with live events, so it may be stopped and repeated at any time.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace

from pipeline.agents.backfill import BackfillProgress
from pipeline.agents.rebuild.part import PartitionRebuild
from pipeline.agents.rebuild.repair import repair_partition
from pipeline.agents.rebuild.throttle import ThrottledStore
from pipeline.search.scan import IndexScan
from pipeline.support.cancellation import cancel_and_wait
from pipeline.tables.documents import AccountDocuments
from pipeline.tables.rebuild_job import RebuildPart


class InPlaceRebuild(PartitionRebuild):
    """Raises `PositionLost` when the partition is not ours, and what `repair_partition` raises."""

    is_current = True  # once done it stays done, whoever owns the partition then
    _reporting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Repair the partition."""
        if self._part.state == "done":
            return
        async with self._concurrency:
            owned, context = self._require_owned(), self._context
            documents = AccountDocuments.uncached(
                context.elastic, owned.live.generation, context.store, context.parked
            )
            self._part = replace(self._part, state="replaying", total=await self._total())
            scan = IndexScan(context.elastic.access, documents.alias)
            try:
                store = ThrottledStore(context.store, self._throttle)
                repaired = await repair_partition(
                    self._slots, store, documents, scan, self._progress
                )
            finally:
                await scan.close()
                if self._reporting is not None:  # or it might overwrite the report below
                    await cancel_and_wait(self._reporting)
            self._part = replace(self._part, state="done", removed=repaired.removed)
            await context.jobs.note(self._part)  # unlike progress it must arrive: it ends the job

    async def promote(self) -> None:
        """There is no other generation to write."""

    def _progress(self, progress: BackfillProgress) -> None:
        rate = progress.events / max(0.001, progress.seconds)
        part = replace(self._part, done=progress.events, events_per_second=round(rate, 1))
        self._part = part
        if self._reporting is None or self._reporting.done():
            self._reporting = asyncio.create_task(self._report(part))

    async def _report(self, part: RebuildPart) -> None:
        with suppress(Exception):  # only for people, and written again soon
            await self._context.jobs.note(part)
