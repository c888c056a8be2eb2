"""One partition's part in an online rebuild, done by the partition's owner.

Live events go to both generations from the moment it joins, which takes no longer than a batch;
the store is replayed beside them. It may stop anywhere: what a checkpoint says is there, is.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import Final

from pipeline.agents.context import (
    GenerationTarget,
    OwnedPartition,
    ProjectionContext,
    generation_target,
)
from pipeline.agents.partition_processor import PartitionProcessor
from pipeline.agents.rebuild.replay import Replay
from pipeline.agents.rebuild.throttle import Throttle, ThrottledStore
from pipeline.model.events import slot_of, slots_of
from pipeline.search import Generation
from pipeline.support.cancellation import cancel_and_wait
from pipeline.tables.checkpoint import nothing
from pipeline.tables.checkpoints import PositionLost
from pipeline.tables.counters import Counters
from pipeline.tables.documents import AccountDocuments
from pipeline.tables.rebuild_job import RebuildJob, RebuildPart
from pipeline.tables.versioned_document import DocumentCache

NOTE_SECONDS: Final = 0.5
REFUSED_SECONDS: Final = 20.0
"""For how long a partition waits for Elasticsearch to take documents that it refused."""
_AGAIN_SECONDS: Final = 1.0


class OnlineBuild:
    """`run` and `turn` raise `PositionLost` when the partition was acquired again meanwhile."""

    def __init__(
        self,
        processor: PartitionProcessor,
        context: ProjectionContext,
        job: RebuildJob,
        part: RebuildPart,
        gate: asyncio.Semaphore,
        pace: Throttle,
    ) -> None:
        assert job.generation is not None
        assert job.uuid is not None
        self.generation = Generation(job.generation, job.uuid, context.projection)
        self._processor, self._context = processor, context
        self._gate, self._pace = gate, pace
        self._slots = slots_of(processor.partition, context.partitions)
        self._part = replace(part, owner=context.owner)
        self._owned: OwnedPartition | None = None
        self._building: GenerationTarget | None = None
        self._noted, self._events = 0.0, 0
        self._replaying_since: float | None = None

    @property
    def stands(self) -> bool:
        """Whether the partition is still as it was when this began."""
        return self._owned is not None and self._processor.owned is self._owned

    async def run(self) -> None:
        """Bring the partition into the generation.

        Raises `GenerationGone` and `CheckpointFenced` as well.
        """
        await self._join()
        counting = asyncio.create_task(self._count())
        try:
            async with self._gate:
                await self._replay()
            self._context.checkpoints.reach(self._processor.partition, self.generation, None)
            await self._write_claims()
        finally:
            await cancel_and_wait(counting)  # or it would count what came after the replay, too
        await self._note(state="replayed", total=self._part.done)

    async def turn(self) -> None:
        """Readers see the generation: write it alone from now on."""
        old = await self._processor.between(self._switch_over)
        if old is not None:
            self._context.checkpoints.forget_generation(self._processor.partition, old)
        for each in self._context.parked.all():
            if slot_of(each.account_id) in self._slots:  # it may be right in this generation
                await self._context.parked.ask_retry(each.account_id)
        await self._note(state="done")

    # ---------------------------------------------------------------- between two batches

    async def _join(self) -> None:
        owned = self._processor.owned
        if owned is None:
            raise PositionLost("the partition is being taken")
        if owned.building is None or owned.building.generation != self.generation:
            if await self._was_begun(owned):
                self._processor.reacquire(PositionLost("to go on with a rebuild where it was"))
                raise PositionLost("the partition is acquired again")
            owned = await self._processor.between(self._switch)
            await self._context.checkpoints.claim_beside(
                self._processor.partition,
                self._context.partitioning,
                self.generation,
                owned.stream,
                owned.epoch,
                anew=True,
            )
        assert owned.building is not None
        self._owned, self._building = owned, owned.building
        if self._cursor == self._slots.start:
            self._part = replace(self._part, done=0)

    async def _switch(self, owned: OwnedPartition) -> OwnedPartition:
        began = time.perf_counter()
        owned.building = generation_target(self._context, self.generation, self._slots.start)
        self._paused(began)
        return owned

    async def _switch_over(self, owned: OwnedPartition) -> Generation | None:
        began = time.perf_counter()
        if owned.building is None or owned.building.generation != self.generation:
            return None
        old, owned.building = owned.live.generation, None
        owned.live = generation_target(self._context, self.generation)
        self._paused(began)
        return old

    def _paused(self, began: float) -> None:
        pause = round(1000 * (time.perf_counter() - began), 3)
        self._part = replace(self._part, pauses_ms=[*self._part.pauses_ms, pause])

    async def _was_begun(self, owned: OwnedPartition) -> bool:
        """Whether a rebuild that stopped has replayed some of the partition, to be gone on with."""
        context = self._context
        empty = nothing(
            self._processor.partition, context.partitioning, self.generation, owned.stream
        )
        claim = (await context.checkpoints.read([empty.id])).get(empty.id)
        if claim is None or claim.sequence is None or not claim.speaks_of(empty):
            return False
        return claim.cursor is None or claim.cursor > self._slots.start

    # ---------------------------------------------------------------- beside live traffic

    async def _replay(self) -> None:
        context = self._context
        documents = AccountDocuments(
            context.elastic,
            self.generation,
            context.store,
            context.parked,
            Counters(),
            DocumentCache(0),
        )
        await self._note(state="replaying")
        self._replaying_since = time.monotonic()
        store = ThrottledStore(context.store, self._pace)
        work = Replay(store, documents, self._begin, self._reached)
        await work.run(range(self._cursor, self._slots.stop))
        await self._insist(documents, work.refused)

    async def _insist(self, documents: AccountDocuments, refused: set[str]) -> None:
        """Try what was refused again: readers see those accounts now, and must not miss them.

        What is refused for good stays parked, and the rebuild comes to its end.
        """
        until = time.monotonic() + REFUSED_SECONDS
        while refused and time.monotonic() < until:
            await asyncio.sleep(_AGAIN_SECONDS)
            self._still_ours()
            for account_id in sorted(refused):
                await documents.replay(account_id)
            refused = {each for each in refused if each in self._context.parked}

    @property
    def _cursor(self) -> int:
        cursor = self._still_ours().cursor
        return self._slots.start if cursor is None else cursor

    def _begin(self, slot: int) -> None:
        self._still_ours().begun = slot

    async def _reached(self, slot: int, events: int) -> None:
        building = self._still_ours()
        building.cursor = slot
        self._events += events
        self._part = replace(self._part, done=self._part.done + events)
        if time.monotonic() - self._noted > NOTE_SECONDS:
            self._context.checkpoints.reach(self._processor.partition, self.generation, slot)
            await self._write_claims()
            await self._note()

    async def _write_claims(self) -> None:
        self._still_ours()
        assert self._owned is not None
        at = {self._processor.partition: self._owned.at()}
        for failure in (await self._context.checkpoints.write(at)).values():
            raise failure

    def _still_ours(self) -> GenerationTarget:
        if self._owned is None or self._processor.owned is not self._owned:
            raise PositionLost("the partition was acquired again")
        if self._building is None or self._owned.building is not self._building:
            raise PositionLost("the generation is not built any more")
        return self._building

    # ---------------------------------------------------------------- for people

    async def _count(self) -> None:
        total = await self._pace.gently(lambda: self._context.store.count(self._slots))
        await self._note(total=total)

    async def _note(self, **changes: object) -> None:
        self._noted = time.monotonic()
        if self._replaying_since is not None:
            rate = self._events / max(0.001, self._noted - self._replaying_since)
            changes["events_per_second"] = round(rate, 1)
        self._part = replace(self._part, **changes)  # type: ignore[arg-type]
        with suppress(Exception):  # it is for people, and told again in a moment
            await self._context.jobs.note(self._part)
