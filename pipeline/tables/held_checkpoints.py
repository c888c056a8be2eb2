"""The checkpoints of one owner, as it wrote them last: its next writes replace exactly these."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from pipeline.search import FoundDocument, Generation, Stamp
from pipeline.tables.checkpoint import Checkpoint, Key, PositionLost


@dataclass(frozen=True, slots=True)
class _Held:
    """A checkpoint, its stamp, and the nodes' boots when the partition was acquired."""

    checkpoint: Checkpoint
    stamp: Stamp
    boots: Mapping[str, int]


class HeldCheckpoints:
    """By partition and generation."""

    def __init__(self) -> None:
        self._held: dict[Key, _Held] = {}
        self._cursors: dict[Key, int | None] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def all(self) -> list[Checkpoint]:
        """Every checkpoint that we hold."""
        return [each.checkpoint for each in self._held.values()]

    def of(self, partition: int) -> list[Checkpoint]:
        """One for each generation that the partition's owner writes."""
        return [each for each in self.all() if each.partition == partition]

    def holds(self, partition: int, epoch: int) -> bool:
        """Whether we hold the partition, in that epoch and no other."""
        held = self.of(partition)
        return bool(held) and all(each.epoch == epoch for each in held)

    def stamp(self, key: Key) -> Stamp:
        """The stamp of its last write, which the next one must find."""
        return self._held[key].stamp

    def is_unchanged(self, key: Key, found: FoundDocument | None) -> bool:
        """Whether the document found is the last write, unchanged."""
        if found is None or key not in self._held:
            return False
        held = self._held[key]
        return found.stamp == held.stamp and found.source == held.checkpoint.document

    def cursor(self, key: Key) -> int | None:
        """What the next write has as `Checkpoint.cursor`."""
        return self._cursors[key]

    # ---------------------------------------------------------------- changes

    def hold(self, checkpoint: Checkpoint, stamp: Stamp, boots: Mapping[str, int]) -> None:
        """Hold it from now on; `boots` are those from before it was read."""
        self._held[checkpoint.key] = _Held(checkpoint, stamp, boots)
        self._cursors[checkpoint.key] = checkpoint.cursor

    def move(self, checkpoint: Checkpoint, stamp: Stamp) -> None:
        """Note a write of it; does nothing if it was released meanwhile."""
        if (held := self._held.get(checkpoint.key)) is not None:
            self._held[checkpoint.key] = replace(held, checkpoint=checkpoint, stamp=stamp)

    def set_cursor(self, key: Key, cursor: int | None) -> None:
        """Set its cursor; does nothing if we don't hold it."""
        if key in self._held:
            self._cursors[key] = cursor

    def forget(self, partition: int) -> None:
        """Release the partition."""
        for each in self.of(partition):
            del self._held[each.key]

    def forget_generation(self, partition: int, generation: Generation) -> None:
        """Release the partition in that generation."""
        self._held.pop((partition, generation.number), None)

    # ---------------------------------------------------------------- nodes

    def restarted(
        self, partitions: Collection[int], boots: Mapping[str, int]
    ) -> dict[int, Exception]:
        """Those of the partitions that were acquired before some node's last start."""
        return {
            partition: PositionLost(f"partition {partition}: Elasticsearch was restarted")
            for (partition, _), held in self._held.items()
            if partition in partitions
            and any(boots.get(node, at) != at for node, at in held.boots.items())
        }
