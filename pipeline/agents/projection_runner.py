"""The projection runner: the partition processors of one projection, their checkpoints, a watchdog.

The watchdog sees what no event tells: an index that was deleted or made anew, an Elasticsearch that
went back in time, a stream that was purged, deleted or made anew. It has the processors acquire the
partitions concerned again.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Self

from pipeline.agents.context import OwnedPartition, ProjectionContext, ReplayableStore
from pipeline.agents.parked_retry import ParkedRetry
from pipeline.agents.partition_processor import PartitionProcessor
from pipeline.agents.source import Delivery, Source, StreamMissing, stream_state
from pipeline.coordination.partitioning import Partitioning
from pipeline.messaging import STREAM, JetStream, StreamState, subject
from pipeline.model.projection import Projection
from pipeline.search import Elastic, GenerationGone, Generations
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from pipeline.tables.checkpoints import Checkpoints, PartitionPosition, PositionLost
from pipeline.tables.counters import Counters
from pipeline.tables.parked_accounts import ParkedAccountList
from pipeline.tables.projection_table import CAPACITY
from pipeline.tables.rebuild_jobs import RebuildJobs

log = logging.getLogger(__name__)

WATCH_SECONDS: Final = 2.0


class ProjectionRunner:
    """Applies the partitions it is given; an async context manager. See `Source` for the seam."""

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
        capacity: int = CAPACITY,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._elastic = Elastic(settings.elasticsearch)
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
            ParkedAccountList(js, projection, replicas=settings.stream_replicas),
            RebuildJobs(js, projection, replicas=settings.stream_replicas),
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
        self._watchdog: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watchdog = asyncio.create_task(self._watch())
        self._retries.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._retries.stop()
        await asyncio.gather(*(self.release(partition) for partition in list(self.processors)))
        if self._watchdog is not None:
            await cancel_and_wait(self._watchdog)
        await self._elastic.close()

    def acquire(self, partition: int) -> PartitionProcessor:
        """Begin to own a partition: it seeks its source, and then waits for deliveries."""
        if partition not in self.processors:
            self.processors[partition] = PartitionProcessor(partition, self.context)
            self._tasks[partition] = asyncio.create_task(self.processors[partition].run())
        return self.processors[partition]

    async def release(self, partition: int) -> None:
        """Let a partition go. What was not yet applied is left to its next owner."""
        if partition in self.processors:
            self.processors.pop(partition).close()
            await cancel_and_wait(self._tasks.pop(partition))
            self.context.checkpoints.forget(partition)

    async def offer(self, delivery: Delivery) -> None:
        """Hand a delivery over; waits while its partition is behind. Ignored if not owned."""
        processor = self.processors.get(delivery.partition)
        if processor is not None:
            await processor.offer(delivery)

    async def checkpoint(self, sequences: Mapping[int, int]) -> set[int]:
        """Claim, by partition, that all up to a sequence is in the index; before it is acked.

        Returns the partitions where that is so: only these may be acked. The others are being
        acquired again. Waits while Elasticsearch is down.
        """
        owned: dict[int, OwnedPartition] = {}
        for partition, sequence in sequences.items():
            processor = self.processors.get(partition)
            if processor and processor.owned and sequence <= processor.owned.applied:
                owned[partition] = processor.owned
        positions = {
            p: PartitionPosition(t.epoch, sequences[p], sequences[p]) for p, t in owned.items()
        }
        return await self._claim(owned, positions)

    async def _claim(
        self, owned: Mapping[int, OwnedPartition], positions: Mapping[int, PartitionPosition]
    ) -> set[int]:
        failed = await self.context.checkpoints.write(positions)
        self._reacquire(failed)
        return {
            partition
            for partition in positions
            if partition not in failed
            and partition in self.processors
            and self.processors[partition].owned is owned[partition]
        }

    # ---------------------------------------------------------------- the watchdog

    async def _watch(self) -> None:
        outage, attempt = Outage(log, "the watchdog"), 0
        while True:
            await asyncio.sleep(self._watch_seconds)
            try:
                await self.inspect()
            except Exception as error:
                await outage.pause(error, attempt)
                attempt += 1
            else:
                outage.over()
                attempt = 0

    async def inspect(self) -> None:
        """Look once; partitions that were harmed are acquired again. Raises when it can't see."""
        self._reacquire(await self.context.checkpoints.verify())
        owned = self._owned()
        live = await self.context.generations.live()
        self._reacquire(
            {
                partition: GenerationGone(f"{each.live.generation.index} is not what readers see")
                for partition, each in owned.items()
                if live is None or live not in each.generations
            }
        )
        try:
            state = await stream_state(self.context.js)
        except StreamMissing as error:
            self._reacquire(dict.fromkeys(owned, error))
            return
        self._reacquire(_harmed(self._owned(), state))
        await self._move_up(state)

    async def _move_up(self, state: StreamState) -> None:
        """Move positions of idle partitions up to the stream's end.

        So what expires or is purged above a partition's last message harms nobody.
        """
        quiet = {
            partition: owned
            for partition, owned in self._owned().items()
            if owned.position < state.last
            and self.processors[partition].idle
            and await self._nothing_after(partition, owned.position)
        }
        if not quiet:
            return
        now = await stream_state(self.context.js)
        harmed = _harmed(quiet, now)
        self._reacquire({p: harmed[p] for p in harmed if self._is(p, quiet[p])})
        positions = {}
        for partition, owned in quiet.items():
            if partition not in harmed and self._is(partition, owned):
                if owned.position < state.last:
                    owned.position = state.last
                positions[partition] = owned.at()
        if positions:
            await self._claim(quiet, positions)

    async def _nothing_after(self, partition: int, position: int) -> bool:
        """Asked of the stream itself: a consumer hears of new messages a moment later."""
        last = await self.context.js.last_message(STREAM, subject(partition))
        return last is None or last.sequence <= position

    def _owned(self) -> dict[int, OwnedPartition]:
        return {p: a.owned for p, a in self.processors.items() if a.owned is not None}

    def _is(self, partition: int, owned: OwnedPartition) -> bool:
        return partition in self.processors and self.processors[partition].owned is owned

    def _reacquire(self, reasons: Mapping[int, Exception]) -> None:
        for partition, reason in reasons.items():
            if partition in self.processors:
                self.processors[partition].reacquire(reason)


def _harmed(owned: Mapping[int, OwnedPartition], state: StreamState) -> dict[int, Exception]:
    """The partitions whose next messages may be gone from the stream."""
    return {
        partition: PositionLost(
            f"partition {partition}: the stream was made anew"
            if each.stream != state.created
            else f"partition {partition}: messages after {each.position} are gone from the stream"
        )
        for partition, each in owned.items()
        if each.stream != state.created or each.position + 1 < state.first
    }
