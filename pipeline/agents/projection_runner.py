"""The projector: a worker's appliers of one projection, their common checkpoints, and the watchdog
over them.

The watchdog sees what no event would tell: an index deleted or made anew, an Elasticsearch that
went back in time, a stream purged, deleted or made anew. The partitions it harmed are taken anew.
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
        self.shared = ProjectionContext(
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
        self.counters = self.shared.counters
        self.appliers: dict[int, PartitionProcessor] = {}
        self._retries = ParkedRetry(self.shared, self.appliers)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._watch_seconds = watch_seconds
        self._watchdog: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watchdog = asyncio.create_task(self._watch())
        self._retries.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._retries.stop()
        await asyncio.gather(*(self.release(partition) for partition in list(self.appliers)))
        if self._watchdog is not None:
            await cancel_and_wait(self._watchdog)
        await self._elastic.close()

    def take(self, partition: int) -> PartitionProcessor:
        """Begin to own a partition: it seeks its source, and then waits for deliveries."""
        if partition not in self.appliers:
            self.appliers[partition] = PartitionProcessor(partition, self.shared)
            self._tasks[partition] = asyncio.create_task(self.appliers[partition].run())
        return self.appliers[partition]

    async def release(self, partition: int) -> None:
        """Let a partition go. What was not yet applied is left to its next owner."""
        if partition in self.appliers:
            self.appliers.pop(partition).close()
            await cancel_and_wait(self._tasks.pop(partition))
            self.shared.checkpoints.forget(partition)

    async def offer(self, delivery: Delivery) -> None:
        """Hand a delivery over; waits while its partition is behind. Ignored if not owned."""
        applier = self.appliers.get(delivery.partition)
        if applier is not None:
            await applier.offer(delivery)

    async def checkpoint(self, sequences: Mapping[int, int]) -> set[int]:
        """Claim, by partition, that all up to a sequence is in the index; before it is acked.

        Returns the partitions where that is so: only these may be acked. The others are being
        taken anew. Waits while Elasticsearch is down.
        """
        taken: dict[int, OwnedPartition] = {}
        for partition, sequence in sequences.items():
            applier = self.appliers.get(partition)
            if applier and applier.taken and sequence <= applier.taken.applied:
                taken[partition] = applier.taken
        positions = {
            p: PartitionPosition(t.epoch, sequences[p], sequences[p]) for p, t in taken.items()
        }
        return await self._claim(taken, positions)

    async def _claim(
        self, taken: Mapping[int, OwnedPartition], positions: Mapping[int, PartitionPosition]
    ) -> set[int]:
        failed = await self.shared.checkpoints.write(positions)
        self._retake(failed)
        return {
            partition
            for partition in positions
            if partition not in failed
            and partition in self.appliers
            and self.appliers[partition].taken is taken[partition]
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
        """Look once; partitions that were harmed are taken anew. Raises when it can't see."""
        self._retake(await self.shared.checkpoints.verify())
        taken = self._taken()
        live = await self.shared.generations.live()
        self._retake(
            {
                partition: GenerationGone(f"{each.live.generation.index} is not what readers see")
                for partition, each in taken.items()
                if live is None or live not in each.generations
            }
        )
        try:
            state = await stream_state(self.shared.js)
        except StreamMissing as error:
            self._retake(dict.fromkeys(taken, error))
            return
        self._retake(_harmed(self._taken(), state))
        await self._move_up(state)

    async def _move_up(self, state: StreamState) -> None:
        """Move positions of idle partitions up to the stream's end.

        So what expires or is purged above a partition's last message harms nobody.
        """
        quiet = {
            partition: taken
            for partition, taken in self._taken().items()
            if taken.position < state.last
            and self.appliers[partition].idle
            and await self._nothing_after(partition, taken.position)
        }
        if not quiet:
            return
        now = await stream_state(self.shared.js)
        harmed = _harmed(quiet, now)
        self._retake({p: harmed[p] for p in harmed if self._is(p, quiet[p])})
        positions = {}
        for partition, taken in quiet.items():
            if partition not in harmed and self._is(partition, taken):
                if taken.position < state.last:
                    taken.position = state.last
                positions[partition] = taken.at()
        if positions:
            await self._claim(quiet, positions)

    async def _nothing_after(self, partition: int, position: int) -> bool:
        """Asked of the stream itself: a consumer hears of new messages a moment later."""
        last = await self.shared.js.last_message(STREAM, subject(partition))
        return last is None or last.sequence <= position

    def _taken(self) -> dict[int, OwnedPartition]:
        return {p: a.taken for p, a in self.appliers.items() if a.taken is not None}

    def _is(self, partition: int, taken: OwnedPartition) -> bool:
        return partition in self.appliers and self.appliers[partition].taken is taken

    def _retake(self, reasons: Mapping[int, Exception]) -> None:
        for partition, reason in reasons.items():
            if partition in self.appliers:
                self.appliers[partition].retake(reason)


def _harmed(taken: Mapping[int, OwnedPartition], state: StreamState) -> dict[int, Exception]:
    """The partitions whose next messages may be gone from the stream."""
    return {
        partition: PositionLost(
            f"partition {partition}: the stream was made anew"
            if each.stream != state.created
            else f"partition {partition}: messages after {each.position} are gone from the stream"
        )
        for partition, each in taken.items()
        if each.stream != state.created or each.position + 1 < state.first
    }
