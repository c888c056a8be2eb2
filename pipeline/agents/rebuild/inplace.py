"""One partition's part in a rebuild in place: every document of it made what the store says.

Nothing stands still for it. What differs is written over in a higher era, and versions decide every
race with live events; it may be begun anew at any time.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace

from pipeline.agents.backfill import Progress
from pipeline.agents.context import Shared
from pipeline.agents.partition_processor import Applier
from pipeline.agents.rebuild.repair import mend_partition
from pipeline.agents.rebuild.throttle import Pace, Paced
from pipeline.model.events import slots_of
from pipeline.search.scan import Survey
from pipeline.support.cancellation import ended
from pipeline.tables.checkpoints import Lost
from pipeline.tables.counters import Counters
from pipeline.tables.documents import Documents
from pipeline.tables.rebuild_job import Job, Part
from pipeline.tables.versioned_document import Cache


class InPlace:
    """Raises `Lost` when the partition is not ours, and what mending raises."""

    stands = True

    def __init__(
        self,
        applier: Applier,
        shared: Shared,
        job: Job,
        part: Part,
        gate: asyncio.Semaphore,
        pace: Pace,
    ) -> None:
        self._applier, self._shared = applier, shared
        self._gate, self._pace = gate, pace
        self._slots = slots_of(applier.partition, shared.partitions)
        self._part = replace(part, owner=shared.owner)
        self._telling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Mend the partition."""
        if self._part.state == "done":
            return
        async with self._gate:
            taken, shared = self._applier.taken, self._shared
            if taken is None:
                raise Lost("the partition is being taken")
            documents = Documents(
                shared.elastic,
                taken.live.generation,
                shared.store,
                shared.parked,
                Counters(),
                Cache(0),
            )
            total = await self._pace.gently(lambda: shared.store.count(self._slots))
            self._part = replace(self._part, state="replaying", total=total)
            survey = Survey(shared.elastic.access, documents.alias)
            try:
                store = Paced(shared.store, self._pace)
                mended = await mend_partition(self._slots, store, documents, survey, self._progress)
            finally:
                await survey.close()
                if self._telling is not None:
                    await ended(self._telling)  # or it would take back what comes now
            self._part = replace(self._part, state="done", removed=mended.removed)
            await shared.jobs.note(self._part)  # that makes the job done, so it must be told

    async def turn(self) -> None:
        """There is no other generation to turn to."""

    def _progress(self, progress: Progress) -> None:
        rate = progress.events / max(0.001, progress.seconds)
        part = replace(self._part, done=progress.events, events_per_second=round(rate, 1))
        self._part = part
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(part))

    async def _tell(self, part: Part) -> None:
        with suppress(Exception):  # it is for people, and told again in a moment
            await self._shared.jobs.note(part)
