"""The table of checkpoints: "all of partition p up to sequence s is in generation g".

Each lives beside the data it speaks of, in the index `bank-checkpoints`, and is written onto
exactly the write before it (compare-and-set). So one write proves that no other owner has taken the
partition, and that Elasticsearch still has what this owner wrote before. A node that was restarted
since the partition was acquired may have forgotten documents: then the claim is not trusted either.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Final

from pipeline.coordination.partitioning import Partitioning
from pipeline.search import (
    ConditionalWrite,
    Elastic,
    Generation,
    GenerationGone,
    ProjectionUnavailable,
)
from pipeline.support.retry import Outage
from pipeline.tables.checkpoint import (
    MAPPING,
    Checkpoint,
    CheckpointFenced,
    PartitionPosition,
    PositionLost,
    checkpoint_of,
    inherited,
    moved,
    nothing,
    verdict,
)
from pipeline.tables.held_checkpoints import HeldCheckpoints

log = logging.getLogger(__name__)

INDEX: Final = "bank-checkpoints"
ALIAS: Final = "bank-checkpoints-live"


class Checkpoints:
    """The checkpoints of the partitions that one worker owns, in each generation it writes."""

    def __init__(self, elastic: Elastic, owner: str, *, replicas: int = 0) -> None:
        self._elastic, self._owner, self._replicas = elastic, owner, replicas
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
        """Take the partition over: from here on no owner before can move its checkpoint.

        `next_epoch(above)` gives the epoch. The claim returned goes on with the sequence found, or
        with what the partitions before it allow, or with None when what was found is of another
        index or stream. Raises `CheckpointFenced`.
        """
        async with self._lock:
            self._held.forget(partition)
            claim = nothing(partition, now, generation, stream)
            claim, before = await self._claim(claim, now, next_epoch)
            # What is inherited is not written yet: the next write, which is onto this one, proves
            # that Elasticsearch still has what it had when the others were read.
            return inherited(claim, now, before)

    async def claim_beside(
        self,
        partition: int,
        now: Partitioning,
        generation: Generation,
        stream: str,
        epoch: int,
        *,
        anew: bool = False,
    ) -> Checkpoint:
        """Claim the partition in a generation being built, too, in the epoch of the live one.

        The claim goes on with what is found, unless `anew`. Raises `CheckpointFenced`, and
        `PositionLost` when the partition is not held any more.
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
            claim = nothing(partition, now, generation, stream)
            claim, _ = await self._claim(replace(claim, cursor=0), now, same, anew=anew)
            return claim

    async def write(
        self, positions: Mapping[int, PartitionPosition], *, back: bool = False
    ) -> dict[int, Exception]:
        """Write the partitions' checkpoints in one bulk; waits while Elasticsearch is down.

        What is claimed already is not written again; with `back` a claim may also be lowered.

        Returns the partitions that failed, each with `CheckpointFenced` or `PositionLost`: nothing
        may be acked there, and the partition must be acquired again. All others are claimed, and
        safe to ack.
        """
        async with self._lock:
            failed: dict[int, Exception] = {}
            wanted: list[Checkpoint] = []
            for partition, position in positions.items():
                if not self._held.holds(partition, position.epoch):
                    failed[partition] = PositionLost(f"partition {partition} was acquired again")
                    continue
                for held in self._held.of(partition):
                    claim = moved(held, position, self._held.cursor(held.key), back)
                    if claim != held:
                        wanted.append(claim)
            if wanted:
                failed |= await self._swap(wanted)
                failed |= await self._restarted({each.partition for each in wanted})
            return failed

    async def read(self, ids: Sequence[str]) -> dict[str, Checkpoint]:
        """The checkpoints of these ids, whoever wrote them. Raises `GenerationGone`."""
        found = await self._elastic.mget(ALIAS, ids)
        claims = {key: checkpoint_of(each) for key, each in found.items()}
        return {key: claim for key, claim in claims.items() if claim is not None}

    async def verify(self) -> dict[int, Exception]:
        """The partitions whose checkpoint is not there as it was written."""
        async with self._lock:
            held = self._held.all()
            if not held:
                return {}
            try:
                found = await self._elastic.mget(ALIAS, [each.id for each in held])
            except GenerationGone as error:
                return {each.partition: PositionLost(str(error)) for each in held}
            failed = {
                each.partition: verdict(each, found.get(each.id))
                for each in held
                if each.key in self._held  # it may have been let go meanwhile
                and not self._held.is_there(each.key, found.get(each.id))
            }
            return failed | await self._restarted({each.partition for each in held})

    def reach(self, partition: int, generation: Generation, cursor: int | None) -> None:
        """What the next write says of a generation being built: see `Checkpoint.cursor`."""
        self._held.reach((partition, generation.number), cursor)

    def forget(self, partition: int) -> None:
        """Let the partition go."""
        self._held.forget(partition)

    def forget_generation(self, partition: int, generation: Generation) -> None:
        """Claim the partition in that generation no more."""
        self._held.forget_generation(partition, generation)

    # ---------------------------------------------------------------- compare and set

    async def _claim(
        self,
        empty: Checkpoint,
        now: Partitioning,
        next_epoch: Callable[[int], Awaitable[int]],
        *,
        anew: bool = False,
    ) -> tuple[Checkpoint, dict[int, Checkpoint | None]]:
        """Write the claim found, or of nothing, as ours; and those of the partitions before."""
        sources = {
            p: replace(empty, partition=p, partitions=now.before or 0).id
            for p in now.sources(empty.partition)
        }
        boots = await self._elastic.boots()
        await self._ensure_index()
        found = await self._elastic.mget(ALIAS, [empty.id, *sources.values()])
        there = found.get(empty.id)
        mine = checkpoint_of(there)
        epoch = await next_epoch(mine.epoch if mine else 0)
        claim = mine if mine and mine.speaks_of(empty) and not anew else empty
        claim = replace(claim, epoch=epoch, owner=self._owner)
        write = ConditionalWrite(claim.id, there.stamp if there else None, asdict(claim))
        (stamp,) = await self._elastic.compare_and_set(ALIAS, [write])
        if stamp is None:
            raise CheckpointFenced(f"partition {empty.partition}: another worker is taking it too")
        self._held.hold(claim, stamp, boots)
        return claim, {p: checkpoint_of(found.get(key)) for p, key in sources.items()}

    async def _swap(self, wanted: Sequence[Checkpoint]) -> dict[int, Exception]:
        """Write each onto the one that is held; look when the answer is lost or a conflict."""
        failed: dict[int, Exception] = {}
        attempt = 0
        while wanted := [each for each in wanted if each.key in self._held]:
            writes = [
                ConditionalWrite(each.id, self._held.stamp(each.key), asdict(each))
                for each in wanted
            ]
            try:
                stamps = await self._elastic.compare_and_set(ALIAS, writes)
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
            wanted = await self._look(unsure, failed) if unsure else []
        return failed

    async def _look(
        self, unsure: Sequence[Checkpoint], failed: dict[int, Exception]
    ) -> list[Checkpoint]:
        """What became of the writes: those that never arrived are returned, to be tried again."""
        try:
            found = await self._elastic.mget(ALIAS, [each.id for each in unsure])
        except GenerationGone as error:
            failed.update({each.partition: PositionLost(str(error)) for each in unsure})
            return []
        again = []
        for each in unsure:
            there = found.get(each.id)
            if there is not None and there.source == asdict(each):
                self._held.move(each, there.stamp)
            elif self._held.is_there(each.key, there):
                again.append(each)
            else:
                failed[each.partition] = verdict(each, there)
        return again

    async def _restarted(self, partitions: Collection[int]) -> dict[int, Exception]:
        """The partitions that were acquired before some node's last start."""
        return self._held.restarted(partitions, await self._elastic.boots())

    async def _ensure_index(self) -> None:
        settings = {"number_of_shards": 1, "number_of_replicas": self._replicas}
        made = await self._elastic.patiently(
            lambda: self._elastic.make_index(INDEX, {ALIAS: {}}, MAPPING, settings)
        )
        if not made and not self._mapped:  # an older version's may lack a field
            await self._elastic.patiently(lambda: self._elastic.extend_mapping(ALIAS, MAPPING))
        self._mapped = True


__all__ = [
    "ALIAS",
    "INDEX",
    "Checkpoint",
    "CheckpointFenced",
    "Checkpoints",
    "PartitionPosition",
    "PositionLost",
]
