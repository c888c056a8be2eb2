"""The projection runner: the partition processors of one projection, their checkpoints, a watchdog.

The watchdog detects what shows in no delivery: an index that was deleted or recreated, an
Elasticsearch that lost its last writes, a stream that was purged, deleted or recreated. It has the
processors acquire the partitions concerned again. It puts back aliases that somebody moved.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, Self

from pipeline.agents.context import OwnedPartition, ProjectionContext, ReplayableStore
from pipeline.agents.parked_retry import ParkedRetry
from pipeline.agents.partition_processor import PartitionProcessor
from pipeline.agents.source import Delivery, Source, StreamMissing, stream_state
from pipeline.coordination.partitioning import Partitioning
from pipeline.messaging import JetStream, StreamState
from pipeline.model.projection import Projection
from pipeline.search import Elastic, GenerationGone, Generations, SharedClient
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from pipeline.support.ticks import tick
from pipeline.tables.checkpoints import Checkpoints, PartitionPosition, PositionLost
from pipeline.tables.counters import Counters
from pipeline.tables.parked_accounts import ParkedAccountList
from pipeline.tables.projection_table import CAPACITY
from pipeline.tables.rebuild_jobs import RebuildJobs

log = logging.getLogger(__name__)

WATCH_SECONDS: Final = 2.0


class ProjectionRunner:
    """Applies its source's deliveries to the partitions it owns; an async context manager."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: ReplayableStore,
        js: JetStream,
        source: Source,
        partitioning: Partitioning,
        owner: str,
        projection: Projection,
        counters: Counters | None = None,
        shared: SharedClient | None = None,
        capacity: int = CAPACITY,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._elastic = Elastic(settings.elasticsearch, shared)
        generations = Generations(
            self._elastic,
            projection,
            shards=settings.index_shards,
            replicas=settings.index_replicas,
            grace_seconds=settings.index_grace_seconds,
        )
        self.context = ProjectionContext(
            projection,
            self._elastic,
            generations,
            Checkpoints(self._elastic, owner, replicas=settings.index_replicas),
            store,
            js,
            source,
            ParkedAccountList(js, projection),
            RebuildJobs(js, projection),
            partitioning,
            owner,
            counters or Counters(),
            capacity=capacity,
        )
        self.counters = self.context.counters
        self.processors: dict[int, PartitionProcessor] = {}
        self._retries = ParkedRetry(self.context, self.processors)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._watch_seconds = watch_seconds
        self._watching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        # Tasks of their own: the inspection waits as long as the indexes can't be read, which the
        # repair of their aliases may end.
        looks = {
            "the watchdog": self.inspect,
            "the repair of aliases": self.context.generations.mend,
            "the repair of the checkpoints' alias": self.context.checkpoints.mend,
        }
        self._watching = [
            asyncio.create_task(Outage(log, what).every(0, partial(self._look_and_rest, look)))
            for what, look in looks.items()
        ]
        self._retries.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._retries.stop()
        await asyncio.gather(*(self.release(partition) for partition in list(self.processors)))
        for task in self._watching:
            await cancel_and_wait(task)
        await self._elastic.close()

    def acquire(self, partition: int) -> PartitionProcessor:
        """Start a processor for a partition, which seeks the source and waits for deliveries."""
        if partition not in self.processors:
            self.processors[partition] = PartitionProcessor(partition, self.context)
            self._tasks[partition] = asyncio.create_task(self.processors[partition].run())
        return self.processors[partition]

    async def release(self, partition: int) -> None:
        """Stop a partition's processor. The next owner reads again what is not applied yet."""
        if partition in self.processors:
            self.processors.pop(partition).close()
            await cancel_and_wait(self._tasks.pop(partition))
            self.context.checkpoints.forget(partition)

    async def offer(self, delivery: Delivery) -> None:
        """Pass a delivery on; waits while its partition is behind. Ignored if not owned."""
        processor = self.processors.get(delivery.partition)
        if processor is not None:
            await processor.offer(delivery)

    async def checkpoint(self, sequences: Mapping[int, int]) -> set[int]:
        """Write checkpoints, by partition, that all up to a sequence is written; before its ack.

        Returns the partitions where that succeeded: only these may be acked. The others are
        acquired again. Waits while Elasticsearch is down.
        """
        # An ack may come late, for an acquisition before this one: then it is not applied in this.
        owned = {
            partition: each
            for partition, each in self._owned().items()
            if partition in sequences and sequences[partition] <= each.applied
        }
        positions = {
            partition: PartitionPosition(each.epoch, sequences[partition], sequences[partition])
            for partition, each in owned.items()
        }
        return await self._write_checkpoints(owned, positions)

    async def _write_checkpoints(
        self, owned: Mapping[int, OwnedPartition], positions: Mapping[int, PartitionPosition]
    ) -> set[int]:
        failed = await self.context.checkpoints.write(positions)
        written = {p for p in positions if p not in failed and self._is_still(p, owned[p])}
        self._reacquire(owned, failed)
        return written

    # ---------------------------------------------------------------- the watchdog

    async def _look_and_rest(self, look: Callable[[], Awaitable[None]]) -> None:
        await look()
        # At the ticks: then all projections of the worker ask Elasticsearch together.
        await tick(self._watch_seconds)

    async def inspect(self) -> None:
        """Check once, and acquire harmed partitions again. Raises when a server does not answer."""
        owned = self._owned()  # first: one acquired after this may be newer than `live`
        live = await self.context.generations.live()
        gone = {
            partition: GenerationGone(f"{each.live.generation.index} is not live any more")
            for partition, each in owned.items()
            if live is None or live not in each.generations
        }
        self._reacquire(owned, gone)
        self._reacquire(owned, await self.context.checkpoints.verify())
        try:
            state = await stream_state(self.context.js)
        except StreamMissing as error:
            self._reacquire(owned, dict.fromkeys(owned, error))
            return
        now = self._owned()
        self._reacquire(now, _harmed(now, state))
        await self._advance_idle(state)

    async def _advance_idle(self, state: StreamState) -> None:
        """Advance the positions of idle partitions to the stream's end.

        Else what expires or is purged above a partition's last message would look like a loss.
        """
        idle = {
            partition: owned
            for partition, owned in self._owned().items()
            if owned.position < state.last
            and self.processors[partition].idle
            and await self._nothing_after(partition, owned.position)
        }
        if not idle:
            return
        # Read again, after looking for messages: if the stream was purged before that, finding none
        # proves nothing, and the position must stay.
        harmed = _harmed(idle, await stream_state(self.context.js))
        self._reacquire(idle, harmed)
        positions = {}
        for partition, owned in idle.items():
            if partition not in harmed and self._is_still(partition, owned):
                # It may be higher by now: then what is in between was applied.
                owned.position = max(owned.position, state.last)
                positions[partition] = owned.at()
        if positions:
            await self._write_checkpoints(idle, positions)

    async def _nothing_after(self, partition: int, position: int) -> bool:
        """Read from the stream itself: a consumer counts new messages a moment late."""
        js = self.context.js
        last = await js.last_message(js.names.log, js.names.subject(partition))
        return last is None or last.sequence <= position

    def _owned(self) -> dict[int, OwnedPartition]:
        return {p: each.owned for p, each in self.processors.items() if each.owned is not None}

    def _is_still(self, partition: int, owned: OwnedPartition) -> bool:
        """Whether the partition was neither released nor acquired again since."""
        return partition in self.processors and self.processors[partition].owned is owned

    def _reacquire(
        self, seen: Mapping[int, OwnedPartition], reasons: Mapping[int, Exception]
    ) -> None:
        """Acquire these again, for their reasons, unless that was done since they were `seen` so,
        or they were released: whoever looked has waited for a server."""
        for partition, reason in reasons.items():
            if partition in seen and self._is_still(partition, seen[partition]):
                # First: the next inspection would find them as this one did, and interrupt the
                # acquisition that is to replace them.
                self.context.checkpoints.forget(partition)
                self.processors[partition].reacquire(reason)


def _harmed(owned: Mapping[int, OwnedPartition], state: StreamState) -> dict[int, Exception]:
    """The partitions whose next messages may be gone from the stream."""
    return {
        partition: PositionLost(
            f"partition {partition}: the stream was recreated"
            if each.stream != state.created
            else f"partition {partition}: messages after {each.position} are gone from the stream"
        )
        for partition, each in owned.items()
        if each.stream != state.created or each.position + 1 < state.first
    }
