"""What a checkpoint claims, as the index holds it, and how two claims compare."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pipeline.index import Found

MAPPING: Final[dict[str, Any]] = {
    "dynamic": "strict",
    "properties": {
        "partition": {"type": "integer"},
        "generation": {"type": "integer"},
        "index_uuid": {"type": "keyword"},
        "stream": {"type": "keyword"},
        "sequence": {"type": "long"},
        "applied": {"type": "long"},
        "epoch": {"type": "long"},
        "era": {"type": "long"},
        "owner": {"type": "keyword"},
    },
}


class Fenced(Exception):
    """Another owner has taken the partition."""


class Lost(Exception):
    """What was written or read before can't be believed any more: take the partition anew."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The claim. `index_uuid` and `stream` (its `created`) name the very index and stream it is of.

    `sequence` None claims nothing. `applied` is the last message of the partition itself: from it
    to `sequence` the stream held none. `era` is the least era of the partition's documents.
    """

    partition: int
    generation: int
    index_uuid: str
    stream: str
    sequence: int | None
    applied: int | None
    epoch: int
    era: int
    owner: str

    @property
    def id(self) -> str:
        return f"{self.partition}-{self.generation}"


class Position(NamedTuple):
    """How far the owner of an epoch has come: see `Checkpoint`."""

    epoch: int
    sequence: int
    applied: int


def moves(held: Checkpoint, position: Position, back: bool) -> bool:
    """Whether a position says more than the claim held, or less where it may go `back`."""
    if held.sequence is None or position.sequence > held.sequence:
        return True
    return back and position.sequence < held.sequence


def checkpoint_of(found: Found) -> Checkpoint | None:
    """None for a document that is no checkpoint: somebody's hand was there."""
    try:
        return Checkpoint(**found.source)
    except TypeError:
        return None


def verdict(mine: Checkpoint, found: Found | None) -> Exception:
    """Why a checkpoint that is not as it was written is not."""
    theirs = checkpoint_of(found) if found else None
    if theirs and theirs.epoch > mine.epoch:
        return Fenced(f"partition {mine.partition} belongs to {theirs.owner}")
    return Lost(f"partition {mine.partition}: its checkpoint is not as it was written")
