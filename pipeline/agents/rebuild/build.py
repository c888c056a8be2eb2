"""One partition's part in an online rebuild, done by the partition's owner.

From the double write on, which starts between two batches, live events are written to both
generations, and the store is replayed beside them. It may stop anywhere, and goes on from the
checkpoint.
"""

import asyncio
import time
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import cached_property
from typing import Final

from pipeline.agents.context import (
    GenerationTarget,
    OwnedPartition,
    generation_target,
)
from pipeline.agents.rebuild.part import PartitionRebuild
from pipeline.agents.rebuild.replay import Replay
from pipeline.agents.rebuild.throttle import ThrottledStore
from pipeline.model.events import slot_of
from pipeline.search import Generation
from pipeline.support.cancellation import running
from pipeline.tables.checkpoint import empty_checkpoint
from pipeline.tables.checkpoints import PositionLost
from pipeline.tables.documents import AccountDocuments

NOTE_SECONDS: Final = 0.5
REFUSED_SECONDS: Final = 20.0
"""How long a partition retries documents that Elasticsearch refused."""
_RETRY_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.05


class OnlineBuild(PartitionRebuild):
    """`run` and `promote` raise `PositionLost` when the partition was acquired again meanwhile."""

    _owned: OwnedPartition | None = None
    _building: GenerationTarget | None = None
    _noted, _events = 0.0, 0
    _replaying_since: float | None = None

    @cached_property
    def generation(self) -> Generation:
        """The generation being built."""
        assert self._job.generation is not None
        assert self._job.uuid is not None
        return Generation(self._job.generation, self._job.uuid, self._context.projection)

    @property
    def is_current(self) -> bool:
        """Whether the partition was not acquired again since this started."""
        return self._owned is not None and self._processor.owned is self._owned

    async def run(self) -> None:
        """Replay the partition into the generation. Also raises `GenerationGone` and
        `CheckpointFenced`.
        """
        # The double write first: an event that is stored after its slot was replayed is written as
        # a live event, one that was stored before is replayed, and versions decide between both.
        await self._join()
        async with running(self._count()):  # no longer, or it would count events after the replay
            async with self._concurrency:
                await self._replay()
            await self._catch_up()
            # Last: with this checkpoint the coordinator may swap the alias.
            self._context.checkpoints.set_cursor(self._processor.partition, self.generation, None)
            await self._write_checkpoint()
        await self._note(state="replayed", total=self._part.done)

    async def promote(self) -> None:
        """Readers see the generation: write it alone from now on. Also raises `PositionLost` if it
        lacks some of the partition: then the partition is acquired again, and backfilled."""
        old = await self._processor.between(self._stop_double_write)
        if old is not None:
            self._context.checkpoints.forget_generation(self._processor.partition, old)
        for each in self._context.parked.all():
            if slot_of(each.account_id) in self._slots:  # this generation may be able to fold it
                await self._context.parked.ask_retry(each.account_id)
        await self._note(state="done")

    # ---------------------------------------------------------------- between two batches

    async def _join(self) -> None:
        """Have the partition write both generations, where it does not yet."""
        owned = self._require_owned()
        if owned.building is None or owned.building.generation != self.generation:
            if await self._was_started(owned):
                # Acquiring again starts from the lower one of both checkpoints, and so delivers the
                # events that this generation has missed since its own.
                self._processor.reacquire(PositionLost("to go on with a rebuild where it was"))
                raise PositionLost("the partition is acquired again")
            owned = await self._processor.between(self._start_double_write)
            await self._context.checkpoints.claim_building(
                self._processor.partition,
                self._context.partitioning,
                self.generation,
                owned.stream,
                owned.epoch,
                restart=True,
            )
        assert owned.building is not None
        self._owned, self._building = owned, owned.building
        if self._cursor == self._slots.start:
            self._part = replace(self._part, done=0)

    async def _start_double_write(self, owned: OwnedPartition) -> OwnedPartition:
        began = time.perf_counter()
        owned.building = generation_target(self._context, self.generation, self._slots.start)
        self._note_pause(began)
        return owned

    async def _stop_double_write(self, owned: OwnedPartition) -> Generation | None:
        began = time.perf_counter()
        if owned.building is None or owned.building.generation != self.generation:
            return None
        if owned.building.cursor != self._slots.stop:
            # It was acquired again just before the swap, and has lost its place: as the live
            # generation it is backfilled when it is acquired.
            raise PositionLost(f"{self.generation.index} is live and not replayed")
        self._context.checkpoints.set_cursor(self._processor.partition, self.generation, None)
        old, owned.building = owned.live.generation, None
        owned.live = generation_target(self._context, self.generation)
        self._note_pause(began)
        return old

    def _note_pause(self, began: float) -> None:
        pause = round(1000 * (time.perf_counter() - began), 3)
        self._part = replace(self._part, pauses_ms=[*self._part.pauses_ms, pause])

    async def _was_started(self, owned: OwnedPartition) -> bool:
        """Whether an earlier run has replayed some of the partition, which needn't be repeated."""
        context = self._context
        empty = empty_checkpoint(
            self._processor.partition, context.partitioning, self.generation, owned.stream
        )
        found = (await context.checkpoints.read([empty.id])).get(empty.id)
        if found is None or found.sequence is None or not found.same_scope_as(empty):
            return False
        return found.cursor is None or found.cursor > self._slots.start

    # ---------------------------------------------------------------- beside live traffic

    async def _replay(self) -> None:
        context = self._context
        documents = AccountDocuments.uncached(
            context.elastic, self.generation, context.store, context.parked
        )
        await self._note(state="replaying")
        self._replaying_since = time.monotonic()
        store = ThrottledStore(context.store, self._throttle)
        replay = Replay(store, documents, self._begin_slot)
        async with aclosing(replay.run(range(self._cursor, self._slots.stop))) as written:
            async for slot, events in written:
                await self._advance(slot, events)
        await self._retry_refused(documents, replay.refused)

    async def _catch_up(self) -> None:
        """Wait until what the stream has now is applied.

        An Elasticsearch that is killed may lose the newest documents of this generation, and keep
        those of the live one. The partition is acquired again then, and until the stream has
        delivered the lost ones, readers of this generation would see accounts go back.
        """
        assert self._owned is not None
        js = self._context.js
        last = await js.last_message(js.names.log, js.names.subject(self._processor.partition))
        while last is not None and self._owned.position < last.sequence:
            await asyncio.sleep(_LOOK_SECONDS)
            self._check_owned()

    async def _retry_refused(self, documents: AccountDocuments, refused: set[str]) -> None:
        """Retry refused documents for a while: readers see those accounts now, and would miss them.

        An account that is refused for longer stays parked, and the rebuild ends without it.
        """
        until = time.monotonic() + REFUSED_SECONDS
        while refused and time.monotonic() < until:
            await asyncio.sleep(_RETRY_SECONDS)
            self._check_owned()
            for account_id in sorted(refused):
                await documents.replay(account_id)
            refused = {each for each in refused if each in self._context.parked}

    @property
    def _cursor(self) -> int:
        cursor = self._check_owned().cursor
        return self._slots.start if cursor is None else cursor

    def _begin_slot(self, slot: int) -> None:
        self._check_owned().begun = slot

    async def _advance(self, slot: int, events: int) -> None:
        """Everything below the slot is written: note that, now and then in the checkpoint."""
        building = self._check_owned()
        building.cursor = slot
        self._events += events
        self._part = replace(self._part, done=self._part.done + events)
        if time.monotonic() - self._noted > NOTE_SECONDS:
            self._context.checkpoints.set_cursor(self._processor.partition, self.generation, slot)
            await self._write_checkpoint()
            await self._note()

    async def _write_checkpoint(self) -> None:
        self._check_owned()
        assert self._owned is not None
        at = {self._processor.partition: self._owned.at()}
        for failure in (await self._context.checkpoints.write(at)).values():
            raise failure

    def _check_owned(self) -> GenerationTarget:
        """The generation being built. Raises `PositionLost` if the partition changed since."""
        if self._owned is None or self._processor.owned is not self._owned:
            raise PositionLost("the partition was acquired again")
        if self._building is None or self._owned.building is not self._building:
            raise PositionLost("the generation is not built any more")
        return self._building

    # ---------------------------------------------------------------- for people

    async def _count(self) -> None:
        await self._note(total=await self._total())

    async def _note(self, **changes: object) -> None:
        self._noted = time.monotonic()
        if self._replaying_since is not None:
            rate = self._events / max(0.001, self._noted - self._replaying_since)
            changes["events_per_second"] = round(rate, 1)
        self._part = replace(self._part, **changes)  # type: ignore[arg-type]
        with suppress(Exception):  # only for people, and written again soon
            await self._context.jobs.note(self._part)
