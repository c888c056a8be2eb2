"""The table of checkpoints: "all of partition p up to sequence s is in generation g".

Checkpoints are stored beside the documents they are about, in an index of the application, and each
write replaces exactly the one before it (compare-and-set). So one write proves that no other
owner has acquired the partition, and that Elasticsearch still has what this owner wrote before. A
node that was restarted since the partition was acquired may have lost documents: then the write is
taken back, and the partition must be acquired again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.coordination.partitioning import Partitioning
from pipeline.search import (
    ConditionalWrite,
    Elastic,
    Generation,
    GenerationGone,
    ProjectionBroken,
    ProjectionUnavailable,
)
from pipeline.support.correlation import detached
from pipeline.support.retry import Outage, told
from pipeline.tables.checkpoint import (
    MAPPING,
    Checkpoint,
    CheckpointFenced,
    PartitionPosition,
    PositionLost,
    checkpoint_of,
    doubted,
    empty_checkpoint,
    inherited,
    moved,
    why_changed,
)
from pipeline.tables.held_checkpoints import HeldCheckpoints

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of the partitions that one worker owns, in each generation it writes."""

    def __init__(self, elastic: Elastic, owner: str, *, replicas: int = 0) -> None:
        self._elastic, self._owner, self._replicas = elastic, owner, replicas
        names = elastic.access.names
        self._index, self._alias = names.checkpoints, names.checkpoints_alias
        self._held = HeldCheckpoints()
        self._lock = asyncio.Lock()
        self._mapped = False
        self._outage = Outage(log, "checkpoints")

    async def claim(
        self,
        partition: int,
        now: Partitioning,
        generation: Generation,
        stream: str,
        next_epoch: Callable[[int], Awaitable[int]],
    ) -> Checkpoint:
        """Acquire the partition's checkpoint: from here on no owner before can move it.

        `next_epoch(above)` returns the epoch. The checkpoint returned has the sequence found, or
        the one that the partitions before this one allow, or None if the one found is about another
        index, stream or partitioning. Raises `CheckpointFenced`.
        """
        async with self._lock:
            self._held.forget(partition)
            empty = empty_checkpoint(partition, now, generation, stream)
            checkpoint, before = await self._claim(empty, now, next_epoch)
            # What is inherited is not written yet: the next write, which replaces this one, proves
            # that Elasticsearch still has what it had when the others were read.
            return inherited(checkpoint, now, before)

    async def claim_building(
        self,
        partition: int,
        now: Partitioning,
        generation: Generation,
        stream: str,
        epoch: int,
        *,
        restart: bool = False,
    ) -> Checkpoint:
        """Acquire the checkpoint in a generation being built, too, in the epoch of the live one.

        It is not whole (`Checkpoint.cursor`), even if all slots are replayed. With `restart` it is
        empty, whatever is found. Raises `CheckpointFenced`, and `PositionLost`
        when the partition is not ours any more.
        """

        async def same(above: int) -> int:
            if above > epoch:
                raise CheckpointFenced(
                    f"partition {partition}: epoch {above} is in {generation.index}"
                )
            return epoch

        async with self._lock:
            if not self._held.holds(partition, epoch):
                raise PositionLost(f"partition {partition} was acquired again")
            empty = replace(empty_checkpoint(partition, now, generation, stream), cursor=0)
            checkpoint, _ = await self._claim(empty, now, same, restart=restart)
            return checkpoint

    async def write(
        self, positions: Mapping[int, PartitionPosition], *, back: bool = False
    ) -> dict[int, Exception]:
        """Write the partitions' checkpoints in one bulk; waits while Elasticsearch is down.

        A checkpoint that would not change is not written; with `back` it may also be lowered.

        Returns the partitions that failed, each with `CheckpointFenced` or `PositionLost`: nothing
        may be acked there, and the partition must be acquired again. All others may be acked.
        """
        # A task of its own: who is cancelled meanwhile must not leave a checkpoint behind that was
        # written after a restart and not taken back.
        return await asyncio.shield(detached(self._write(positions, back)))

    async def _write(
        self, positions: Mapping[int, PartitionPosition], back: bool
    ) -> dict[int, Exception]:
        async with self._lock:
            failed: dict[int, Exception] = {}
            wanted: list[Checkpoint] = []
            replaced: list[Checkpoint] = []
            for partition, position in positions.items():
                if not self._held.holds(partition, position.epoch):
                    failed[partition] = PositionLost(f"partition {partition} was acquired again")
                    continue
                for held in self._held.of(partition):
                    checkpoint = moved(held, position, self._held.cursor(held.key), back)
                    if checkpoint != held:
                        wanted.append(checkpoint)
                        replaced.append(held)
            if wanted:
                failed |= await self._swap(wanted)
                # After the writes: a node that was restarted before them has its new boot by now.
                restarted = await self._restarted({each.partition for each in wanted})
                # A write after a restart claims documents that may have been lost, for those of
                # after the last checkpoint are the first to go. What it replaced is true: it was
                # still there.
                await self._swap([each for each in replaced if each.partition in restarted])
                failed |= restarted
            return failed

    async def read(self, ids: Sequence[str]) -> dict[str, Checkpoint]:
        """The checkpoints of these ids, whoever wrote them. Raises `GenerationGone`."""
        found = await self._elastic.mget(self._alias, ids)
        read = {key: checkpoint_of(each) for key, each in found.items()}
        return {key: each for key, each in read.items() if each is not None}

    async def doubt(self, ids: Sequence[str]) -> None:
        """Take back that these are whole, whoever owns them: each owner acquires it again.

        Raises `GenerationGone` and `ProjectionUnavailable`; then some may be as they were.
        """
        while ids:
            found = await self._elastic.mget(self._alias, ids)
            read = {key: checkpoint_of(each) for key, each in found.items()}
            whole = {key: each for key, each in read.items() if each and each.cursor is None}
            writes = [
                ConditionalWrite(key, found[key].stamp, doubted(each).document)
                for key, each in whole.items()
            ]
            stamps = await self._elastic.compare_and_set(self._alias, writes) if writes else []
            # An owner may have moved it meanwhile, and it is still whole.
            ids = [key for key, stamp in zip(whole, stamps, strict=True) if stamp is None]

    async def verify(self) -> dict[int, Exception]:
        """The partitions whose checkpoint is not as this owner wrote it."""
        async with self._lock:
            held = self._held.all()
            if not held:
                return {}
            try:
                found = await self._elastic.mget(self._alias, [each.id for each in held])
            except GenerationGone as error:
                return {each.partition: PositionLost(str(error)) for each in held}
            failed = {
                each.partition: why_changed(each, found.get(each.id))
                for each in held
                if each.key in self._held  # it may have been released meanwhile
                and not self._held.is_unchanged(each.key, found.get(each.id))
            }
            return failed | await self._restarted({each.partition for each in held})

    async def fault(self) -> str | None:
        """Why checkpoints can't be read or written; None if they can, or if there are none yet."""
        if self._held.all():
            try:
                await self._elastic.require_readable(self._alias)
            except ProjectionBroken as error:
                return str(error)
            except ProjectionUnavailable as error:
                return told(error)
        return self._outage.reason

    async def mend(self) -> None:
        """Take the alias from any index but ours, and give it back to that. Raises the driver's
        errors. An index that is gone is created by the next `claim`."""
        await self._elastic.keep_alias(self._alias, self._index)

    def set_cursor(self, partition: int, generation: Generation, cursor: int | None) -> None:
        """Set what the next write has as `Checkpoint.cursor`."""
        self._held.set_cursor((partition, generation.number), cursor)

    def forget(self, partition: int) -> None:
        """Stop writing the partition's checkpoints."""
        self._held.forget(partition)

    def forget_generation(self, partition: int, generation: Generation) -> None:
        """Stop writing the partition's checkpoint in that generation."""
        self._held.forget_generation(partition, generation)

    # ---------------------------------------------------------------- compare and set

    async def _claim(
        self,
        empty: Checkpoint,
        now: Partitioning,
        next_epoch: Callable[[int], Awaitable[int]],
        *,
        restart: bool = False,
    ) -> tuple[Checkpoint, dict[int, Checkpoint | None]]:
        """Write the checkpoint found, or an empty one, as ours.

        Returns it, and the checkpoints of the partitions before it.
        """
        sources = {
            p: replace(empty, partition=p, partitions=now.before or 0).id
            for p in now.sources(empty.partition)
        }
        # First: a restart after this shows, and one before it lost nothing that is read below.
        boots = await self._elastic.boots()
        await self._ensure_index()
        found = await self._elastic.mget(self._alias, [empty.id, *sources.values()])
        there = found.get(empty.id)
        mine = checkpoint_of(there)
        # After the read: the epoch must be above the checkpoint's, for the KV bucket that counts
        # epochs may have been lost.
        epoch = await next_epoch(mine.epoch if mine else 0)
        checkpoint = mine if mine and mine.same_scope_as(empty) and not restart else empty
        if empty.cursor is not None:
            # It was whole for an owner before us. Now the stream may deliver again what it lost.
            checkpoint = doubted(checkpoint)
        checkpoint = replace(checkpoint, epoch=epoch, owner=self._owner)
        write = ConditionalWrite(checkpoint.id, there.stamp if there else None, checkpoint.document)
        (stamp,) = await self._elastic.compare_and_set(self._alias, [write])
        if stamp is None:
            raise CheckpointFenced(
                f"partition {empty.partition}: another worker acquires it at the same time"
            )
        self._held.hold(checkpoint, stamp, boots)
        return checkpoint, {p: checkpoint_of(found.get(key)) for p, key in sources.items()}

    async def _swap(self, wanted: Sequence[Checkpoint]) -> dict[int, Exception]:
        """Replace each that we hold; read again where the answer is lost or a conflict."""
        failed: dict[int, Exception] = {}
        attempt = 0
        # A partition that was released meanwhile drops out: its next owner's checkpoint must stay.
        while wanted := [each for each in wanted if each.key in self._held]:
            writes = [
                ConditionalWrite(each.id, self._held.stamp(each.key), each.document)
                for each in wanted
            ]
            try:
                stamps = await self._elastic.compare_and_set(self._alias, writes)
                self._outage.over()
            except ProjectionUnavailable as error:
                await self._outage.pause(error, attempt)
                stamps = [None] * len(writes)
                attempt += 1
            except GenerationGone as error:
                return {each.partition: PositionLost(str(error)) for each in wanted}
            unsure = []
            for each, stamp in zip(wanted, stamps, strict=True):
                if stamp is None:
                    unsure.append(each)
                else:
                    self._held.move(each, stamp)
            wanted = await self._resolve(unsure, failed) if unsure else []
        return failed

    async def _resolve(
        self, unsure: Sequence[Checkpoint], failed: dict[int, Exception]
    ) -> list[Checkpoint]:
        """Find out what became of writes; returns those that never arrived, to be tried again."""
        try:
            found = await self._elastic.mget(self._alias, [each.id for each in unsure])
        except GenerationGone as error:
            failed.update({each.partition: PositionLost(str(error)) for each in unsure})
            return []
        again = []
        for each in unsure:
            there = found.get(each.id)
            if there is not None and there.source == each.document:
                self._held.move(each, there.stamp)
            elif self._held.is_unchanged(each.key, there):
                again.append(each)
            else:
                failed[each.partition] = why_changed(each, there)
        return again

    async def _restarted(self, partitions: Collection[int]) -> dict[int, Exception]:
        """The partitions that were acquired before some node's last start."""
        return self._held.restarted(partitions, await self._elastic.boots())

    async def _ensure_index(self) -> None:
        settings = {"number_of_shards": 1, "number_of_replicas": self._replicas}
        made = await self._elastic.patiently(
            lambda: self._elastic.make_index(self._index, {self._alias: {}}, MAPPING, settings)
        )
        if not made and not self._mapped:  # an index of an older release may lack a field
            await self._elastic.patiently(
                lambda: self._elastic.extend_mapping(self._index, MAPPING)
            )
        self._mapped = True


__all__ = [
    "Checkpoint",
    "CheckpointFenced",
    "Checkpoints",
    "PartitionPosition",
    "PositionLost",
]
