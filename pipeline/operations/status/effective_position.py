"""How far a partition is in the live index, as one who owns none may believe the checkpoints."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pipeline.agents.source import starting_position
from pipeline.coordination.partitioning import Partitioning
from pipeline.messaging import StreamState
from pipeline.operations.status.lag import TO_BACKFILL
from pipeline.operations.status.probe import Unknown
from pipeline.search import Generation
from pipeline.tables.checkpoint import Checkpoint, checkpoint_id, empty_checkpoint, inherited

Claims = Mapping[str, Checkpoint]
"""The checkpoints that are in the live index, by id."""

_NO_INDEX: Final = Unknown(f"{TO_BACKFILL}: there is no index")
_NO_CLAIM: Final = Unknown(f"{TO_BACKFILL}: there is no checkpoint in the live index")
_OTHER: Final = Unknown(
    f"{TO_BACKFILL}: the checkpoint is of another index, stream or number of partitions"
)
_NOTHING: Final = Unknown(f"{TO_BACKFILL}: the checkpoint claims nothing yet")
_UNFINISHED: Final = Unknown(f"{TO_BACKFILL}: not all of it is in the live index yet")
_GONE: Final = Unknown(f"{TO_BACKFILL}: the stream has no more what follows the checkpoint")


def position_of(
    partition: int,
    now: Partitioning,
    generation: Generation | None,
    state: StreamState,
    claims: Claims,
) -> int | Unknown:
    """The sequence up to which all of the partition is in the index: where a worker would go on.

    Unknown when a worker would backfill first.
    """
    if generation is None:
        return _NO_INDEX
    empty = empty_checkpoint(partition, now, generation, state.created)
    mine = claims.get(empty.id)
    if mine is not None and now.at == 0:  # a log that lost what it said of a repartition
        empty = replace(empty, at=mine.at)
    ours = mine is not None and mine.same_scope_as(empty)
    before = _before(partition, now, generation, claims)
    claim = inherited(mine if mine and ours else empty, now, before)
    if claim.sequence is None or claim.applied is None:
        return _NO_CLAIM if mine is None else _NOTHING if ours else _OTHER
    if claim.cursor is not None:
        return _UNFINISHED
    if starting_position(claim, claim.applied, state) is None:
        return _GONE
    return claim.sequence


def claim_ids(now: Partitioning, generation: Generation) -> list[str]:
    """Of all checkpoints that say something: of these partitions, and of those before."""
    counts = (now.count, now.before or 0)
    return [checkpoint_id(generation, p, count) for count in counts for p in range(count)]


def _before(
    partition: int, now: Partitioning, generation: Generation, claims: Claims
) -> dict[int, Checkpoint | None]:
    """The checkpoints of the partitions that held some of its accounts before."""
    ids = {p: checkpoint_id(generation, p, now.before or 0) for p in now.sources(partition)}
    return {p: claims.get(key) for p, key in ids.items()}
