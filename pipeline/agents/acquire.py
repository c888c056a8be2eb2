"""Taking a partition: become its owner, and find where to go on in each generation it writes."""

import logging
from collections.abc import Awaitable, Callable
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

Backfill = Callable[[OwnedPartition], Awaitable[None]]


class OtherVersion(Exception):
    """The live generation is not of this worker's version of the projection."""


class _Beside(NamedTuple):
    """A generation being built, and what is claimed of the partition in it."""

    generation: Generation
    claim: Checkpoint

    def resumed(self, floor: int, state: StreamState) -> int | None:
        """Where it could go on, or None."""
        return starting_position(self.claim, floor, state)


async def acquire(
    context: ProjectionContext, partition: int, label: int, backfill: Backfill
) -> OwnedPartition:
    """Start where all before is in the live generation; `label` goes to the source's deliveries.

    Where that can't be, the partition is backfilled first. Raises `CheckpointFenced`,
    `PositionLost` and the errors of the servers; then it may be tried again.
    """
    await context.parked.refresh()
    generation = await context.generations.ensure_live()
    frozen = await _of_another_version(context, generation)
    stream = await stream_state(context.js)
    await _still_in_force(context)
    claim = await context.checkpoints.claim(
        partition,
        context.partitioning,
        generation,
        stream.created,
        lambda above: raise_epoch(context.js, context.projection, partition, context.owner, above),
    )
    beside = await _claim_beside(context, claim)
    floor = await context.source.seek(partition, None, label)
    state = await stream_state(context.js)
    if state.created != stream.created:
        raise PositionLost("the stream was made anew")
    if frozen and beside is None:
        raise OtherVersion(f"{generation.index} waits for the rebuild that replaces it")
    start = None if claim.cursor is not None else starting_position(claim, floor, state)
    since = beside.resumed(floor, state) if beside and (frozen or start is not None) else None
    places = [place for place in (since, None if frozen else start) if place is not None]
    position = min(places, default=state.last)
    if not places or position < floor or floor < claim.at:
        position = await context.source.seek(partition, position, label)
    owned = OwnedPartition(
        generation_target(context, generation),
        stream.created,
        claim.epoch,
        position,
        min(position, max(floor, claim.at)),
        _building(context, beside, since) if beside else None,
    )
    owned.live.frozen = frozen
    if frozen:  # it stays where it is
        context.checkpoints.forget_generation(partition, generation)
    elif start is None:
        await backfill(owned)
    await _write_claims(context, partition, owned)
    log.info(
        "partition %d goes on after %d (epoch %d, %s)",
        partition,
        position,
        claim.epoch,
        generation.index,
    )
    return owned


def being_built(context: ProjectionContext) -> Generation | None:
    """The generation that a running rebuild builds, as far as this process knows."""
    job = context.jobs.current
    if job is None or job.phase != "building" or job.version != context.projection.version:
        return None
    if job.generation is None or job.uuid is None:
        return None
    return Generation(job.generation, job.uuid, context.projection)


async def _of_another_version(context: ProjectionContext, live: Generation) -> bool:
    """Whether the live generation is of an older fold: then its rebuild is started.

    Raises `OtherVersion` if it is of a newer one: there is nothing this worker could do.
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


async def _claim_beside(context: ProjectionContext, live: Checkpoint) -> _Beside | None:
    await context.jobs.refresh()
    generation = being_built(context)
    if generation is None or generation.number == live.generation:
        return None
    claim = await context.checkpoints.claim_beside(
        live.partition, context.partitioning, generation, live.stream, live.epoch
    )
    return _Beside(generation, claim)


def _building(context: ProjectionContext, beside: _Beside, since: int | None) -> GenerationTarget:
    """Go on with what was replayed, if no event has been missed since; else from the beginning."""
    slots = slots_of(beside.claim.partition, context.partitions)
    cursor = slots.start
    if since is not None:
        cursor = slots.stop if beside.claim.cursor is None else beside.claim.cursor
    return generation_target(context, beside.generation, max(cursor, slots.start))


async def _write_claims(context: ProjectionContext, partition: int, owned: OwnedPartition) -> None:
    context.checkpoints.reach(partition, owned.live.generation, None)
    if owned.building is not None:
        slots = slots_of(partition, context.partitions)
        begun = owned.building.begun
        cursor = None if begun == slots.stop else begun
        context.checkpoints.reach(partition, owned.building.generation, cursor)
    failed = await context.checkpoints.write({partition: owned.at()}, back=True)
    for failure in failed.values():
        raise failure


async def _still_in_force(context: ProjectionContext) -> None:
    """Nothing is claimed of partitions that are no more: raises `PositionLost`."""
    now = await partitioning(context.js)
    if now is not None and not now.same_as(context.partitioning):
        raise PositionLost(f"the bank has {now.count} partitions since {now.at}")
