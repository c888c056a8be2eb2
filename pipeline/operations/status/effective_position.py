"""How far a partition is applied to the live index, by its checkpoints, as a reader sees it."""

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

CheckpointsById = Mapping[str, Checkpoint]
"""The checkpoints in the live index, by id."""

_NO_INDEX: Final = Unknown(f"{TO_BACKFILL}: there is no index")
_NO_CHECKPOINT: Final = Unknown(f"{TO_BACKFILL}: there is no checkpoint in the live index")
_OTHER: Final = Unknown(
    f"{TO_BACKFILL}: the checkpoint is of another index, stream or number of partitions"
)
_NOTHING: Final = Unknown(f"{TO_BACKFILL}: the checkpoint claims nothing yet")
_UNFINISHED: Final = Unknown(f"{TO_BACKFILL}: not all of it is in the live index yet")
_GONE: Final = Unknown(f"{TO_BACKFILL}: the stream has no more what follows the checkpoint")


def effective_position(
    partition: int,
    now: Partitioning,
    generation: Generation | None,
    state: StreamState,
    checkpoints: CheckpointsById,
) -> int | Unknown:
    """The sequence up to which all events of the partition are in the index.

    A new owner would go on after it. Unknown where a new owner would backfill first.
    """
    if generation is None:
        return _NO_INDEX
    empty = empty_checkpoint(partition, now, generation, state.created)
    mine = checkpoints.get(empty.id)
    if mine is not None and now.at == 0:  # the stream has lost the record of a repartition
        empty = replace(empty, at=mine.at)
    ours = mine is not None and mine.same_scope_as(empty)
    before = _before(partition, now, generation, checkpoints)
    checkpoint = inherited(mine if mine and ours else empty, now, before)
    if checkpoint.sequence is None or checkpoint.applied is None:
        return _NO_CHECKPOINT if mine is None else _NOTHING if ours else _OTHER
    if checkpoint.cursor is not None:
        return _UNFINISHED
    if starting_position(checkpoint, checkpoint.applied, state) is None:
        return _GONE
    return checkpoint.sequence


def checkpoint_ids(now: Partitioning, generation: Generation) -> list[str]:
    """The ids of the checkpoints of these partitions, and of those before the last repartition."""
    counts = (now.count, now.before or 0)
    return [checkpoint_id(generation, p, count) for count in counts for p in range(count)]


def _before(
    partition: int, now: Partitioning, generation: Generation, checkpoints: CheckpointsById
) -> dict[int, Checkpoint | None]:
    """The checkpoints of the partitions that had some of its accounts before the repartition."""
    ids = {p: checkpoint_id(generation, p, now.before or 0) for p in now.sources(partition)}
    return {p: checkpoints.get(key) for p, key in ids.items()}
