"""What a worker's partition processors share, and the state of an owned partition."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pipeline.agents.source import Source
from pipeline.coordination.partitioning import Partitioning
from pipeline.messaging import JetStream
from pipeline.model.events import Event
from pipeline.model.projection import Projection
from pipeline.search import Elastic, Generation, Generations
from pipeline.tables.checkpoints import Checkpoints, PartitionPosition
from pipeline.tables.counters import Counters
from pipeline.tables.documents import HistoryLoader
from pipeline.tables.parked_accounts import ParkedAccountList
from pipeline.tables.projection_table import CAPACITY, ProjectionTable
from pipeline.tables.rebuild_jobs import RebuildJobs

BACKFILLS_AT_ONCE: Final = 2
"""How many partitions of one worker backfill at the same time; the others wait."""


class ReplayableStore(HistoryLoader, Protocol):
    """The event store, as far as the agents use it."""

    def replay(
        self,
        slots: Iterable[int],
        begin: Callable[[int], None] = ...,
        rest: Callable[[float, int], Awaitable[None]] = ...,
    ) -> AsyncIterator[list[Event]]: ...

    async def readable(self, events: Sequence[Event]) -> Sequence[Event]: ...

    async def count(self, slots: range | None = None) -> int: ...


@dataclass(frozen=True, slots=True)
class ProjectionContext:
    """What all partition processors of one projection share in a worker."""

    projection: Projection
    elastic: Elastic
    generations: Generations
    checkpoints: Checkpoints
    store: ReplayableStore
    js: JetStream
    source: Source
    parked: ParkedAccountList
    jobs: RebuildJobs
    partitioning: Partitioning
    owner: str
    counters: Counters = field(default_factory=Counters)
    capacity: int = CAPACITY
    backfilling: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(BACKFILLS_AT_ONCE)
    )

    @property
    def partitions(self) -> int:
        return self.partitioning.count


@dataclass(slots=True, eq=False)
class GenerationTarget:
    """A generation that a partition's events are written to.

    While it is being built, slots below `cursor` are replayed. Events of slots from `begun` on are
    left to the replay, which has not started with them: an event is in the store before it is in
    the stream, so the replay will read it. None: it is not being built, all events are written.
    """

    generation: Generation
    table: ProjectionTable
    begun: int | None = None
    cursor: int | None = None
    frozen: bool = False
    """It is of an older version of the projection: it is not written any more, only replaced."""


@dataclass(slots=True, eq=False)
class OwnedPartition:
    """A partition that is ours, in one acquisition.

    `position`: the stream sequence up to which everything is written, in the live generation and in
    the one being built; `applied`: the last message of the partition itself up to there.
    """

    live: GenerationTarget
    stream: str
    epoch: int
    position: int
    applied: int
    building: GenerationTarget | None = None

    @property
    def generations(self) -> tuple[Generation, ...]:
        """Those that are written."""
        targets = (self.building, self.live)
        return tuple(target.generation for target in targets if target is not None)

    def at(self) -> PartitionPosition:
        return PartitionPosition(self.epoch, self.position, self.applied)


def generation_target(
    context: ProjectionContext, generation: Generation, begun: int | None = None
) -> GenerationTarget:
    """A generation to write to, with an empty cache."""
    # Its own table, with its own cache: state taken from another generation would carry the errors
    # of that one over.
    lot = context.parked if begun is None else ReadOnlyParkingLot(context.parked)
    counters = context.counters if begun is None else Counters()
    table = ProjectionTable(
        context.elastic,
        generation,
        context.store,
        lot,
        counters,
        capacity=context.capacity,
        # In a generation being built accounts are loaded all the time: nothing is wrong then.
        healing=logging.INFO if begun is None else logging.DEBUG,
    )
    return GenerationTarget(generation, table, begun, begun)


class ReadOnlyParkingLot:
    """The parked accounts, for a generation being built: an account that can be folded there stays
    parked until readers see that generation."""

    def __init__(self, parked: ParkedAccountList) -> None:
        self._parked = parked

    def __contains__(self, account_id: str) -> bool:
        return account_id in self._parked

    async def park(self, account_id: str, **about: Any) -> object:
        return await self._parked.park(account_id, **about)

    async def drop(self, account_id: str) -> bool:
        return False
