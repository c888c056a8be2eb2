"""A checkpoint, its document in Elasticsearch, and the rules for moving it; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.coordination.partitioning import Partitioning
from pipeline.model.events import slots_of
from pipeline.model.names import BANK
from pipeline.search import FoundDocument, Generation
from pipeline.tables.epochs import HIGHEST

MAPPING: Final[dict[str, Any]] = {
    "dynamic": "strict",
    "properties": {
        "projection": {"type": "keyword"},
        "partition": {"type": "integer"},
        "partitions": {"type": "integer"},
        "at": {"type": "long"},
        "generation": {"type": "integer"},
        "index_uuid": {"type": "keyword"},
        "stream": {"type": "keyword"},
        "sequence": {"type": "long"},
        "applied": {"type": "long"},
        "epoch": {"type": "long"},
        "cursor": {"type": "integer"},
        "owner": {"type": "keyword"},
    },
}


Key = tuple[int, int]
"""A partition and a generation's number."""


class CheckpointFenced(Exception):
    """Another owner has acquired the partition."""


class PositionLost(Exception):
    """What was written or read before can't be trusted any more: acquire the partition again."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All messages of a partition up to `sequence` are in the generation; None: nothing is known.

    `index_uuid` and `stream` (its `created`) identify the index and the stream it is about,
    `partitions` and `at` the partitioning. `applied` is the last message of the partition itself:
    from there to `sequence` the stream has none. `cursor` is for a generation being built: only the
    slots below it are in it; None: all.
    """

    # A document with any other field was written by hand.
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    partition: int
    partitions: int
    at: int
    generation: int
    index_uuid: str
    stream: str
    sequence: int | None
    applied: int | None
    epoch: int
    cursor: int | None
    owner: str
    projection: str = BANK.plain

    @property
    def key(self) -> "Key":
        return self.partition, self.generation

    @property
    def id(self) -> str:
        return _id(self.projection, self.generation, self.partition, self.partitions)

    @property
    def document(self) -> dict[str, Any]:
        """As it is stored; `checkpoint_of` reads it."""
        return dict(_CHECKED.dump_python(self))

    def same_scope_as(self, other: "Checkpoint") -> bool:
        """Whether both are about the same index, stream and partitioning."""
        ours = self.index_uuid, self.stream, self.partitions, self.at
        return ours == (other.index_uuid, other.stream, other.partitions, other.at)


_CHECKED: Final = TypeAdapter(Checkpoint)


def empty_checkpoint(
    partition: int, now: Partitioning, generation: Generation, stream: str
) -> Checkpoint:
    """A checkpoint of nothing, without an owner."""
    return Checkpoint(
        partition,
        now.count,
        now.at,
        generation.number,
        generation.uuid,
        stream,
        sequence=None,
        applied=None,
        epoch=0,
        cursor=None,
        owner="",
        projection=generation.projection.name,
    )


def checkpoint_id(generation: Generation, partition: int, partitions: int) -> str:
    """The id of its document: partition 3 of 8 and partition 3 of 6 have different ones."""
    return _id(generation.projection.name, generation.number, partition, partitions)


def _id(projection: str, generation: int, partition: int, partitions: int) -> str:
    return f"{projection}-{generation}-{partition}-of-{partitions}"


def inherited(
    checkpoint: Checkpoint, now: Partitioning, before: Mapping[int, Checkpoint | None]
) -> Checkpoint:
    """The checkpoint; an empty one is raised to `now.at` if the partitions before it allow that.

    `before` has the checkpoints of `now.sources`. They allow it if each has everything that its
    partition ever got.
    """
    if checkpoint.sequence is not None or not before:
        return checkpoint
    old = replace(checkpoint, partitions=now.before or 0, at=now.before_at)
    for source, each in before.items():
        if each is None or each.cursor is not None or not each.same_scope_as(old):
            return checkpoint
        if each.sequence is None or each.sequence < now.last[source]:
            return checkpoint
    return replace(checkpoint, sequence=now.at, applied=now.at)


class PartitionPosition(NamedTuple):
    """How far the owner of an epoch has applied a partition: see `Checkpoint`."""

    epoch: int
    sequence: int
    applied: int


def moved(
    held: Checkpoint, position: PartitionPosition, cursor: int | None, back: bool
) -> Checkpoint:
    """The checkpoint at another position and cursor. It is only lowered if it may go `back`."""
    checkpoint = replace(held, cursor=cursor)
    if held.sequence is None or position.sequence > held.sequence or back:
        checkpoint = replace(checkpoint, sequence=position.sequence, applied=position.applied)
    if checkpoint.sequence == held.sequence:  # so that what is written already is not written again
        checkpoint = replace(checkpoint, applied=held.applied)
    return checkpoint


def checkpoint_of(found: FoundDocument | None) -> Checkpoint | None:
    """The checkpoint in a document; None if there is none or it is invalid: written by hand."""
    try:
        checkpoint = _CHECKED.validate_python(found.source) if found else None
    except ValidationError:
        return None
    return checkpoint if checkpoint and 0 <= checkpoint.epoch < HIGHEST else None


def doubted(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint of a generation being built; if it is whole, it becomes one of which all slots
    are replayed, and the partition's owner has to catch up with the stream."""
    if checkpoint.cursor is not None:
        return checkpoint
    return replace(checkpoint, cursor=slots_of(checkpoint.partition, checkpoint.partitions).stop)


def why_changed(mine: Checkpoint, found: FoundDocument | None) -> Exception:
    """What a checkpoint that is not as its owner wrote it means for that owner."""
    theirs = checkpoint_of(found)
    if theirs and theirs.epoch > mine.epoch:
        return CheckpointFenced(f"partition {mine.partition} belongs to {theirs.owner}")
    return PositionLost(f"partition {mine.partition}: its checkpoint is not as it was written")
