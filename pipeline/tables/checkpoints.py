"""The table of checkpoints: "all of partition p up to sequence s is in generation g".

Each lives beside the data it speaks of, in the index `bank-checkpoints`, and is written onto
exactly the write before it (compare-and-set). So one write proves that no other owner has taken the
partition, and that Elasticsearch still has what this owner wrote before. A node that was restarted
since the partition was taken may have forgotten documents: then the claim is not believed either.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from pipeline.index import (
    ConditionalWrite,
    Elastic,
    Found,
    Generation,
    GenerationGone,
    ProjectionUnavailable,
    Stamp,
)
from pipeline.outage import Outage
from pipeline.tables.claims import (
    MAPPING,
    Checkpoint,
    Fenced,
    Lost,
    Position,
    checkpoint_of,
    moves,
    verdict,
)

log = logging.getLogger(__name__)

INDEX: Final = "bank-checkpoints"
ALIAS: Final = "bank-checkpoints-live"


@dataclass(frozen=True, slots=True)
class _Held:
    """A checkpoint as this owner wrote it, and the nodes' boots when the partition was taken."""

    checkpoint: Checkpoint
    stamp: Stamp
    boots: Mapping[str, int]


class Checkpoints:
    """The checkpoints of the partitions that one worker owns."""

    def __init__(self, elastic: Elastic, owner: str, *, replicas: int = 0) -> None:
        self._elastic, self._owner, self._replicas = elastic, owner, replicas
        self._held: dict[int, _Held] = {}
        self._lock = asyncio.Lock()
        self._outage = Outage(log, "checkpoints")

    async def claim(
        self,
        partition: int,
        generation: Generation,
        stream: str,
        next_epoch: Callable[[int], Awaitable[int]],
    ) -> Checkpoint:
        """Take the partition over: from here on no owner before can move its checkpoint.

        `next_epoch(above)` gives the epoch. The claim returned goes on with the sequence found, or
        with None when what was found is of another index or stream. Raises `Fenced`.
        """
        async with self._lock:
            self._held.pop(partition, None)
            boots = await self._elastic.boots()
            await self._ensure_index()
            key = f"{partition}-{generation.number}"
            found = (await self._elastic.mget(ALIAS, [key])).get(key)
            before = checkpoint_of(found) if found else None
            epoch = await next_epoch(before.epoch if before else 0)
            claim = Checkpoint(
                partition, generation.number, generation.uuid, stream, None, None, epoch, 0, ""
            )
            if before and (before.index_uuid, before.stream) == (generation.uuid, stream):
                claim = replace(before, epoch=epoch)
            claim = replace(claim, owner=self._owner)
            write = ConditionalWrite(key, found.stamp if found else None, asdict(claim))
            (stamp,) = await self._elastic.compare_and_set(ALIAS, [write])
            if stamp is None:
                raise Fenced(f"partition {partition}: another worker is taking it too")
            self._held[partition] = _Held(claim, stamp, boots)
            return claim

    async def write(
        self, positions: Mapping[int, Position], *, back: bool = False
    ) -> dict[int, Exception]:
        """Write the partitions' checkpoints in one bulk; waits while Elasticsearch is down.

        What is claimed already is not written again; with `back` a claim may also be lowered.

        Returns the partitions that failed, each with `Fenced` or `Lost`: nothing may be acked
        there, and the partition is to be taken anew. All others are claimed, and safe to ack.
        """
        async with self._lock:
            failed: dict[int, Exception] = {}
            wanted: list[Checkpoint] = []
            for partition, position in positions.items():
                held = self._held.get(partition)
                if held is None or held.checkpoint.epoch != position.epoch:
                    failed[partition] = Lost(f"partition {partition} was taken anew")
                elif moves(held.checkpoint, position, back):
                    wanted.append(
                        replace(
                            held.checkpoint, sequence=position.sequence, applied=position.applied
                        )
                    )
            if wanted:
                failed |= await self._swap(wanted)
                failed |= await self._restarted([each.partition for each in wanted])
            return failed

    async def verify(self) -> dict[int, Exception]:
        """The partitions whose checkpoint is not there as it was written."""
        async with self._lock:
            held = dict(self._held)
            if not held:
                return {}
            try:
                found = await self._elastic.mget(ALIAS, [h.checkpoint.id for h in held.values()])
            except GenerationGone as error:
                return {partition: Lost(str(error)) for partition in held}
            failed = {
                partition: verdict(each.checkpoint, found.get(each.checkpoint.id))
                for partition, each in held.items()
                if not _same(each, found.get(each.checkpoint.id))
            }
            return failed | await self._restarted(list(held))

    def forget(self, partition: int) -> None:
        """Let the partition go."""
        self._held.pop(partition, None)

    async def _swap(self, wanted: Sequence[Checkpoint]) -> dict[int, Exception]:
        """Write each onto the one that is held; look when the answer is lost or a conflict."""
        failed: dict[int, Exception] = {}
        attempt = 0
        while wanted := [each for each in wanted if each.partition in self._held]:
            writes = [
                ConditionalWrite(each.id, self._held[each.partition].stamp, asdict(each))
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
                return {each.partition: Lost(str(error)) for each in wanted}
            unsure = []
            for each, stamp in zip(wanted, stamps, strict=True):
                if stamp is None:
                    unsure.append(each)
                else:
                    self._hold(each, stamp)
            wanted = await self._look(unsure, failed) if unsure else []
        return failed

    async def _look(
        self, unsure: Sequence[Checkpoint], failed: dict[int, Exception]
    ) -> list[Checkpoint]:
        """What became of the writes: those that never arrived are returned, to be tried again."""
        try:
            found = await self._elastic.mget(ALIAS, [each.id for each in unsure])
        except GenerationGone as error:
            failed.update({each.partition: Lost(str(error)) for each in unsure})
            return []
        again = []
        for each in unsure:
            there = found.get(each.id)
            if there is not None and there.source == asdict(each):
                self._hold(each, there.stamp)
            elif each.partition in self._held and _same(self._held[each.partition], there):
                again.append(each)
            else:
                failed[each.partition] = verdict(each, there)
        return again

    async def _restarted(self, partitions: Sequence[int]) -> dict[int, Exception]:
        """The partitions that were taken before some node's last start."""
        boots = await self._elastic.boots()
        return {
            partition: Lost(f"partition {partition}: Elasticsearch was restarted")
            for partition in partitions
            if (held := self._held.get(partition)) is not None
            and any(boots.get(node, at) != at for node, at in held.boots.items())
        }

    def _hold(self, checkpoint: Checkpoint, stamp: Stamp) -> None:
        held = self._held.get(checkpoint.partition)
        if held is not None:  # it may have been let go meanwhile
            self._held[checkpoint.partition] = _Held(checkpoint, stamp, held.boots)

    async def _ensure_index(self) -> None:
        settings = {"number_of_shards": 1, "number_of_replicas": self._replicas}
        await self._elastic.patiently(
            lambda: self._elastic.make_index(INDEX, {ALIAS: {}}, MAPPING, settings)
        )


def _same(held: _Held, found: Found | None) -> bool:
    return (
        found is not None and found.stamp == held.stamp and found.source == asdict(held.checkpoint)
    )


__all__ = ["ALIAS", "INDEX", "Checkpoint", "Checkpoints", "Fenced", "Lost", "Position"]
