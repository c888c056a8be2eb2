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
    shared: ProjectionContext, partition: int, label: int, synchronise: Backfill
) -> OwnedPartition:
    """Start where all before is in the live generation; `label` goes to the source's deliveries.

    Where that can't be, the partition is backfilled first. Raises `CheckpointFenced`,
    `PositionLost` and the errors of the servers; then it may be tried again.
    """
    await shared.parked.refresh()
    generation = await shared.generations.ensure_live()
    frozen = await _of_another_version(shared, generation)
    stream = await stream_state(shared.js)
    await _still_in_force(shared)
    claim = await shared.checkpoints.claim(
        partition,
        shared.partitioning,
        generation,
        stream.created,
        lambda above: raise_epoch(shared.js, shared.projection, partition, shared.owner, above),
    )
    beside = await _claim_beside(shared, claim)
    floor = await shared.source.seek(partition, None, label)
    state = await stream_state(shared.js)
    if state.created != stream.created:
        raise PositionLost("the stream was made anew")
    if frozen and beside is None:
        raise OtherVersion(f"{generation.index} waits for the rebuild that replaces it")
    start = None if claim.cursor is not None else starting_position(claim, floor, state)
    since = beside.resumed(floor, state) if beside and (frozen or start is not None) else None
    places = [place for place in (since, None if frozen else start) if place is not None]
    position = min(places, default=state.last)
    if not places or position < floor or floor < claim.at:
        position = await shared.source.seek(partition, position, label)
    taken = OwnedPartition(
        generation_target(shared, generation),
        stream.created,
        claim.epoch,
        position,
        min(position, max(floor, claim.at)),
        _building(shared, beside, since) if beside else None,
    )
    taken.live.frozen = frozen
    if frozen:  # it stays where it is
        shared.checkpoints.forget_generation(partition, generation)
    elif start is None:
        await synchronise(taken)
    await _write_claims(shared, partition, taken)
    log.info(
        "partition %d goes on after %d (epoch %d, %s)",
        partition,
        position,
        claim.epoch,
        generation.index,
    )
    return taken


def being_built(shared: ProjectionContext) -> Generation | None:
    """The generation that a running rebuild builds, as far as this process knows."""
    job = shared.jobs.current
    if job is None or job.phase != "building" or job.version != shared.projection.version:
        return None
    if job.generation is None or job.uuid is None:
        return None
    return Generation(job.generation, job.uuid, shared.projection)


async def _of_another_version(shared: ProjectionContext, live: Generation) -> bool:
    """Whether the live generation is of an older fold: then its rebuild is started.

    Raises `OtherVersion` if it is of a newer one: there is nothing this worker could do.
    """
    version = shared.projection.version
    if live.version == version:
        return False
    if live.version > version:
        raise OtherVersion(
            f"{live.index} is of version {live.version} of the projection, this worker of "
            f"version {version}: it is too old to write it"
        )
    partitions = range(shared.partitions)
    job, joined = await shared.jobs.start("online", partitions, len(partitions))
    if not joined:
        log.warning(
            "%s is of version %d of the projection, this worker of %d: rebuild %s replaces it",
            live.index,
            live.version,
            version,
            job.id,
        )
    return True


async def _claim_beside(shared: ProjectionContext, live: Checkpoint) -> _Beside | None:
    await shared.jobs.refresh()
    generation = being_built(shared)
    if generation is None or generation.number == live.generation:
        return None
    claim = await shared.checkpoints.claim_beside(
        live.partition, shared.partitioning, generation, live.stream, live.epoch
    )
    return _Beside(generation, claim)


def _building(shared: ProjectionContext, beside: _Beside, since: int | None) -> GenerationTarget:
    """Go on with what was replayed, if no event has been missed since; else from the beginning."""
    slots = slots_of(beside.claim.partition, shared.partitions)
    cursor = slots.start
    if since is not None:
        cursor = slots.stop if beside.claim.cursor is None else beside.claim.cursor
    return generation_target(shared, beside.generation, max(cursor, slots.start))


async def _write_claims(shared: ProjectionContext, partition: int, taken: OwnedPartition) -> None:
    shared.checkpoints.reach(partition, taken.live.generation, None)
    if taken.building is not None:
        slots = slots_of(partition, shared.partitions)
        begun = taken.building.begun
        cursor = None if begun == slots.stop else begun
        shared.checkpoints.reach(partition, taken.building.generation, cursor)
    failed = await shared.checkpoints.write({partition: taken.at()}, back=True)
    for failure in failed.values():
        raise failure


async def _still_in_force(shared: ProjectionContext) -> None:
    """Nothing is claimed of partitions that are no more: raises `PositionLost`."""
    now = await partitioning(shared.js)
    if now is not None and not now.same_as(shared.partitioning):
        raise PositionLost(f"the bank has {now.count} partitions since {now.at}")
