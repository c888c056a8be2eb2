"""Acquiring a partition: become its owner, and find the position to read on from.

What the partition processor has to do afterwards, in this order: backfill if `needs_backfill`, then
`write_checkpoints`, then apply deliveries.
"""

import logging
from typing import NamedTuple

from pipeline.agents.context import (
    GenerationTarget,
    OwnedPartition,
    ProjectionContext,
    generation_target,
)
from pipeline.agents.source import starting_position, stream_state
from pipeline.coordination.partitioning import partitioning
from pipeline.messaging import StreamState
from pipeline.model.events import slots_of
from pipeline.search import Generation
from pipeline.tables.checkpoints import Checkpoint, PositionLost
from pipeline.tables.epochs import raise_epoch

log = logging.getLogger(__name__)


class OtherVersion(Exception):
    """The live generation is not of this worker's version of the projection."""


class Acquired(NamedTuple):
    """A partition that is ours now.

    `needs_backfill`: the live generation lacks events that the stream will not deliver.
    """

    owned: OwnedPartition
    needs_backfill: bool


class _Found(NamedTuple):
    """The state to claim the partition in. `frozen`: the live generation is not to be written."""

    live: Generation
    frozen: bool
    stream: StreamState


class _Claimed(NamedTuple):
    """The checkpoints as the partition was claimed: in the live generation and, if one is being
    built, in that one."""

    live: Checkpoint
    building: Checkpoint | None
    generation: Generation | None
    """The one being built."""


class _Start(NamedTuple):
    """Sequences to read on after: for each generation (None: it can't go on from there), and for
    the source, which is the lower one."""

    live: int | None
    building: int | None
    position: int
    seek: bool
    """Whether the source has to be moved there from the ack floor."""


async def acquire(context: ProjectionContext, partition: int, label: int) -> Acquired:
    """Become the owner of a partition; the source marks its deliveries with `label`.

    Raises `CheckpointFenced`, `PositionLost`, `OtherVersion` and the errors of the servers; then it
    may be repeated.
    """
    # Before the claim, which names the generation, the stream and the partitioning it is for.
    found = await _find_state(context)
    # Before the seek: an event is acked after its checkpoint is written, and from the claim on the
    # owner before can't write one. So it acks nothing that the claimed checkpoint does not have.
    claimed = await _claim(context, partition, found)
    floor = await context.source.seek(partition, None, label)
    # After the seek: if the stream was recreated in between, the floor is not of the stream that
    # the checkpoint names.
    state = await _same_stream(context, found.stream)
    if found.frozen and claimed.generation is None:
        raise OtherVersion(f"{found.live.index} waits for the rebuild that replaces it")
    start = _start(found, claimed, floor, state)
    if start.seek:
        # The source stands lower than wanted if the stream has lost its end since.
        position = await context.source.seek(partition, start.position, label)
        start = start._replace(position=position)
    owned = _owned(context, found, claimed, floor, start)
    return Acquired(owned, needs_backfill=start.live is None and not found.frozen)


async def write_checkpoints(
    context: ProjectionContext, partition: int, owned: OwnedPartition
) -> None:
    """Write where the partition starts, in each generation it writes: the last step of acquiring.

    Only now: before the backfill it would not be true. `back`, because the position may be lower
    than the one before. Raises `CheckpointFenced` and `PositionLost`.
    """
    if owned.live.frozen:  # nothing is written to it, so its checkpoint stays as it is
        context.checkpoints.forget_generation(partition, owned.live.generation)
    else:
        context.checkpoints.set_cursor(partition, owned.live.generation, None)
    if owned.building is not None:
        # Not None, even if all slots are replayed: its owner has to catch up first (`OnlineBuild`).
        begun = owned.building.begun
        context.checkpoints.set_cursor(partition, owned.building.generation, begun)
    failed = await context.checkpoints.write({partition: owned.at()}, back=True)
    for failure in failed.values():
        raise failure
    log.info(
        "partition %d goes on after %d (epoch %d, %s)",
        partition,
        owned.position,
        owned.epoch,
        owned.live.generation.index,
    )


def generation_being_built(context: ProjectionContext) -> Generation | None:
    """The generation that a running rebuild builds, as far as this process knows."""
    job = context.jobs.current
    if job is None or job.phase != "building" or not job.is_for(context.projection):
        return None
    if job.generation is None or job.uuid is None:
        return None
    return Generation(job.generation, job.uuid, context.projection)


# ------------------------------------------------------------------ the state found


async def _find_state(context: ProjectionContext) -> _Found:
    await context.parked.refresh()  # or events of a parked account would be applied
    live = await context.generations.ensure_live()
    frozen = await _needs_rebuild(context, live)
    stream = await stream_state(context.js)
    await _check_partitioning(context)
    return _Found(live, frozen, stream)


async def _needs_rebuild(context: ProjectionContext, live: Generation) -> bool:
    """Whether the live generation is of an older version of the projection; starts its rebuild.

    Raises `OtherVersion` if it is of a newer one, which this worker can't write.
    """
    version = context.projection.version
    if live.version == version:
        return False
    if live.version > version:
        raise OtherVersion(
            f"{live.index} is of version {live.version} of the projection, this worker of "
            f"version {version}: it is too old to write it"
        )
    partitions = range(context.partitions)
    job, joined = await context.jobs.start("online", partitions, len(partitions))
    if not joined:
        log.warning(
            "%s is of version %d of the projection, this worker of %d: rebuild %s replaces it",
            live.index,
            live.version,
            version,
            job.id,
        )
    return True


async def _check_partitioning(context: ProjectionContext) -> None:
    """Raise `PositionLost` if the number of partitions has changed: this one is no more."""
    now = await partitioning(context.js)
    if now is not None and not now.same_as(context.partitioning):
        raise PositionLost(f"the bank has {now.count} partitions since {now.at}")


async def _same_stream(context: ProjectionContext, before: StreamState) -> StreamState:
    state = await stream_state(context.js)
    if state.created != before.created:
        raise PositionLost("the stream was recreated")
    return state


# ------------------------------------------------------------------ the claim


async def _claim(context: ProjectionContext, partition: int, found: _Found) -> _Claimed:
    """Fence the owner before us off, in the live generation first: that one gives the epoch."""
    live = await context.checkpoints.claim(
        partition,
        context.partitioning,
        found.live,
        found.stream.created,
        lambda above: raise_epoch(context.js, context.projection, partition, context.owner, above),
    )
    await context.jobs.refresh()
    generation = generation_being_built(context)
    if generation is None or generation.number == live.generation:
        return _Claimed(live, None, None)
    building = await context.checkpoints.claim_building(
        partition, context.partitioning, generation, live.stream, live.epoch
    )
    return _Claimed(live, building, generation)


# ------------------------------------------------------------------ the position


def _start(found: _Found, claimed: _Claimed, floor: int, state: StreamState) -> _Start:
    """Where to read on. Nothing can go on: after the last message, for the store has all before it.

    A generation that can't go on does not count: it is backfilled or replayed from the store.
    """
    # With a cursor, only the slots below it are in the generation.
    complete = claimed.live.cursor is None
    live = starting_position(claimed.live, floor, state) if complete else None
    building = None
    if claimed.building is not None and (found.frozen or live is not None):
        building = starting_position(claimed.building, floor, state)
    possible = [each for each in (building, None if found.frozen else live) if each is not None]
    position = min(possible, default=state.last)
    # From the ack floor up to a higher position the stream has nothing of this partition: no seek.
    # But a floor of before the repartition is that of another partition.
    seek = not possible or position < floor or floor < claimed.live.at
    return _Start(live, building, position, seek)


def _owned(
    context: ProjectionContext, found: _Found, claimed: _Claimed, floor: int, start: _Start
) -> OwnedPartition:
    live = generation_target(context, found.live)
    live.frozen = found.frozen
    return OwnedPartition(
        live,
        found.stream.created,
        claimed.live.epoch,
        start.position,
        min(start.position, max(floor, claimed.live.at)),
        _building_target(context, claimed, start.building),
    )


def _building_target(
    context: ProjectionContext, claimed: _Claimed, start: int | None
) -> GenerationTarget | None:
    """The generation being built: its replay goes on if no event was missed since, or restarts."""
    if claimed.building is None or claimed.generation is None:
        return None
    cursor = first = slots_of(claimed.building.partition, context.partitions).start
    if start is not None and claimed.building.cursor is not None:
        cursor = claimed.building.cursor
    return generation_target(context, claimed.generation, max(cursor, first))
