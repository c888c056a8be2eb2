"""What a checkpoint claims, as the index holds it, and how two claims compare."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from pipeline.coordination.partitioning import Partitioning
from pipeline.model.projection import FIRST
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
    """Another owner has taken the partition."""


class PositionLost(Exception):
    """What was written or read before can't be believed any more: acquire the partition again."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The claim. `index_uuid` and `stream` (its `created`) name the very index and stream it is of,
    `partitions` and `at` the partitioning.

    `sequence` None claims nothing. `applied` is the last message of the partition itself: from it
    to `sequence` the stream held none. `cursor`, of a generation being built: only the slots
    below it are in it; None: all.
    """

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
    projection: str = FIRST

    @property
    def key(self) -> "Key":
        return self.partition, self.generation

    @property
    def id(self) -> str:
        return _id(self.projection, self.generation, self.partition, self.partitions)

    def speaks_of(self, other: "Checkpoint") -> bool:
        """Whether both are of one index, stream and partitioning."""
        ours = self.index_uuid, self.stream, self.partitions, self.at
        return ours == (other.index_uuid, other.stream, other.partitions, other.at)


_CHECKED: Final = TypeAdapter(Checkpoint)


def nothing(partition: int, now: Partitioning, generation: Generation, stream: str) -> Checkpoint:
    """A claim of nothing, by nobody."""
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
    """Partition 3 of 8 and partition 3 of 6 are not the same."""
    return _id(generation.projection.name, generation.number, partition, partitions)


def _id(projection: str, generation: int, partition: int, partitions: int) -> str:
    return f"{projection}-{generation}-{partition}-of-{partitions}"


def inherited(
    claim: Checkpoint, now: Partitioning, before: Mapping[int, Checkpoint | None]
) -> Checkpoint:
    """A claim of nothing becomes one of all up to `now.at`, if those before it allow that.

    `before` has the checkpoints of `now.sources`. Each has to claim all that its partition ever
    got; one that is not as the repartition left it allows nothing.
    """
    if claim.sequence is not None or not before:
        return claim
    was = replace(claim, partitions=now.before or 0, at=now.before_at)
    for source, each in before.items():
        if each is None or each.cursor is not None or not each.speaks_of(was):
            return claim
        if each.sequence is None or each.sequence < now.last[source]:
            return claim
    return replace(claim, sequence=now.at, applied=now.at)


class PartitionPosition(NamedTuple):
    """How far the owner of an epoch has come: see `Checkpoint`."""

    epoch: int
    sequence: int
    applied: int


def moved(
    held: Checkpoint, position: PartitionPosition, cursor: int | None, back: bool
) -> Checkpoint:
    """The claim held, at a position and a cursor; it goes down only where it may go `back`."""
    claim = replace(held, cursor=cursor)
    if held.sequence is None or position.sequence > held.sequence or back:
        claim = replace(claim, sequence=position.sequence, applied=position.applied)
    return claim if claim.sequence != held.sequence else replace(claim, applied=held.applied)


def checkpoint_of(found: FoundDocument | None) -> Checkpoint | None:
    """None for a document that is no checkpoint: somebody's hand was there."""
    try:
        claim = _CHECKED.validate_python(asdict(Checkpoint(**found.source))) if found else None
    except (TypeError, ValidationError):
        return None
    return claim if claim and 0 <= claim.epoch < HIGHEST else None


def verdict(mine: Checkpoint, found: FoundDocument | None) -> Exception:
    """Why a checkpoint that is not as it was written is not."""
    theirs = checkpoint_of(found)
    if theirs and theirs.epoch > mine.epoch:
        return CheckpointFenced(f"partition {mine.partition} belongs to {theirs.owner}")
    return PositionLost(f"partition {mine.partition}: its checkpoint is not as it was written")
