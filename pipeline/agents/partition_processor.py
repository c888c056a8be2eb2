"""The partition processor: acquires one partition, then applies its deliveries until cancelled.

It drives all the work of a partition: `acquire`, `backfill`, `read_events` and `write_events` are
called from here and call nothing back. It never raises. What fails for a moment is repeated;
whatever else goes wrong, it acquires the partition again, from the state it finds then: another
generation, another stream, a checkpoint that went back.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from pipeline.agents.acquire import acquire, write_checkpoints
from pipeline.agents.apply import read_events, write_events
from pipeline.agents.backfill import BackfillProgress, backfill
from pipeline.agents.context import OwnedPartition, ProjectionContext
from pipeline.agents.source import Delivery
from pipeline.messaging.notifications import WrittenBatch, notify
from pipeline.model.events import slots_of
from pipeline.search import GenerationGone
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage
from pipeline.tables.checkpoints import CheckpointFenced, PositionLost

log = logging.getLogger(__name__)

T = TypeVar("T")

MERGED: Final = 2000
"""Queued deliveries are applied together up to about so many messages."""
QUEUED: Final = 8
"""Deliveries that wait; then `offer` waits."""

Step = Callable[[OwnedPartition], Awaitable[Any]]


class PartitionProcessor:
    """One partition. `owned` is None while it is being acquired or backfilled.

    `acquisition` counts how often it was acquired; deliveries of an earlier one are stale.
    """

    def __init__(self, partition: int, context: ProjectionContext) -> None:
        self.partition, self.acquisition = partition, 0
        self.owned: OwnedPartition | None = None
        self.progress: BackfillProgress | None = None
        self._context = context
        self._named = f"{context.projection.name} partition {partition}"
        self._inbox: asyncio.Queue[Delivery | None] = asyncio.Queue(QUEUED)
        self._steps: deque[tuple[Step, asyncio.Future[Any]]] = deque()
        self._busy = False
        self._interrupt: asyncio.Future[Exception] | None = None
        self._outage = Outage(log, self._named, most=2.0)
        self._attempt = 0

    @property
    def idle(self) -> bool:
        """Whether all offered deliveries are applied."""
        return self.owned is not None and not self._busy and self._inbox.empty()

    @property
    def trouble(self) -> str | None:
        """Why it has not been able to go on for some seconds; None if it has."""
        return self._outage.reason

    async def offer(self, delivery: Delivery) -> None:
        """Queue a delivery; waits while too many are queued. Drops a stale one."""
        if delivery.acquisition == self.acquisition:
            await self._inbox.put(delivery)

    async def between(self, step: Callable[[OwnedPartition], Awaitable[T]]) -> T:
        """Run a step between two batches, when nothing else writes the partition's documents.

        Raises what the step raises; `PositionLost` when the partition is acquired again or released
        meanwhile.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._steps.append((step, done))
        if self._inbox.empty():
            self._inbox.put_nowait(None)  # wakes the processor, which may wait for a delivery
        return await done

    def close(self) -> None:
        """Drop all deliveries, also those whose `offer` still waits; then cancel `run`."""
        self.acquisition = -1  # before the inbox is emptied: what is queued from now on is stale
        self._empty_inbox()
        self._refuse_steps()

    def reacquire(self, reason: Exception) -> None:
        """Interrupt whatever is under way, and acquire the partition again."""
        self.owned = None
        if self._interrupt is not None and not self._interrupt.done():
            self._interrupt.set_result(reason)

    async def run(self) -> None:
        """Own the partition until cancelled."""
        while True:
            # A task of its own, so that `reacquire` can interrupt it wherever it waits, and a new
            # one starts with nothing of the old state.
            self._interrupt = asyncio.get_running_loop().create_future()
            work = asyncio.create_task(self._work())
            try:
                await asyncio.wait((work, self._interrupt), return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.owned, self.progress = None, None
                await cancel_and_wait(work)
                if not work.cancelled():
                    work.exception()  # else asyncio logs it if `run` is cancelled at that moment
            await self._pause_after(work)

    async def _pause_after(self, work: asyncio.Task[None]) -> None:
        """Log why the partition is acquired again, and pause; longer each time."""
        self._context.counters.reacquired += 1
        error = None if work.cancelled() else work.exception()
        if self._interrupt is not None and self._interrupt.done():
            error = self._interrupt.result()
        if isinstance(error, CheckpointFenced):
            # Another worker acquired it, perhaps rightly: ask who owns it, and don't compete.
            self._attempt = max(self._attempt, 3)
            await self._context.source.contested(self.partition)
        log.debug("%s is acquired again", self._named, exc_info=error)
        await self._outage.pause(error or PositionLost("stopped"), self._attempt)
        self._attempt += 1

    async def _work(self) -> None:
        """Acquire the partition; then apply batch after batch, with steps between them."""
        self._busy = False
        owned = await self._acquire()
        while True:
            batch = await self._next_batch()
            self._busy = True
            if batch:
                await self._apply(owned, batch)
            while self._steps:
                await self._run_step(owned, *self._steps.popleft())
            self._busy = False

    async def _run_step(self, owned: OwnedPartition, step: Step, done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            return
        try:
            result = await step(owned)
        except asyncio.CancelledError:
            _settle(done, error=PositionLost("the partition is acquired again"))
            raise
        except (GenerationGone, PositionLost) as error:
            _settle(done, error=error)
            raise
        except Exception as error:
            _settle(done, error=error)
        else:
            _settle(done, result)

    def _refuse_steps(self) -> None:
        while self._steps:
            _settle(self._steps.popleft()[1], error=PositionLost("the partition was released"))

    async def _persistently(self, step: Callable[[], Awaitable[T]]) -> T:
        """Repeat a step until it works, unless the partition has to be acquired again."""
        return await self._outage.retry_forever(step, unless=(GenerationGone, PositionLost))

    # ---------------------------------------------------------------- acquiring

    async def _acquire(self) -> OwnedPartition:
        # First: what is queued now was read before the seek, and `acquire` seeks.
        self.acquisition += 1
        self._empty_inbox()
        owned, needs_backfill = await acquire(self._context, self.partition, self.acquisition)
        if needs_backfill:
            await self._persistently(lambda: self._backfill(owned))
        # After the backfill, which the checkpoints say is done; before the first delivery, whose
        # checkpoint is written onto these.
        await write_checkpoints(self._context, self.partition, owned)
        self._outage.over()
        self.owned = owned
        return owned

    async def _backfill(self, owned: OwnedPartition) -> None:
        """Bring every document up to the store, of each generation that the partition writes."""
        context, slots = self._context, slots_of(self.partition, self._context.partitions)
        async with context.backfilling:
            log.info("%s: backfilling from the event store", self._named)
            # As with events, the generation being built comes first. Its other slots are replayed
            # later, and the replay reads the store, too.
            if owned.building is not None and owned.building.begun is not None:
                begun = range(slots.start, owned.building.begun)
                await backfill(begun, context.store, owned.building.table.documents)
            report = await backfill(slots, context.store, owned.live.table.documents, self._note)
        self.progress = None
        context.counters.backfilled += 1
        log.info(
            "%s: backfilled, %d events of %d accounts, %d documents written in %.1f s",
            self._named,
            report.events,
            report.accounts,
            report.written,
            report.seconds,
        )

    def _empty_inbox(self) -> None:
        while not self._inbox.empty():
            self._inbox.get_nowait()

    def _note(self, progress: BackfillProgress) -> None:
        self.progress = progress

    # ---------------------------------------------------------------- applying

    async def _next_batch(self) -> list[Delivery]:
        """The next delivery and those queued behind it, without stale ones.

        Empty when there are steps to run.
        """
        batch: list[Delivery] = []
        count = 0
        while not batch or (count < MERGED and not self._inbox.empty()):
            if self._steps:
                break
            delivery = await self._inbox.get()
            if delivery is not None and delivery.acquisition == self.acquisition:
                batch.append(delivery)
                count += len(delivery.messages)
        return batch

    async def _apply(self, owned: OwnedPartition, batch: Sequence[Delivery]) -> None:
        """Write the deliveries' documents; then let them be checkpointed and acked."""
        started, began = time.monotonic(), time.time()
        count = await self._persistently(lambda: self._write(owned, batch))
        # Only now, when every document is written: a checkpoint claims all up to `applied`, and
        # `done` has the batch checkpointed and acked.
        last = max(delivery.last for delivery in batch)
        owned.position = owned.applied = max(owned.position, last)
        self._attempt = 0
        self._context.counters.batch(count, time.monotonic() - started)
        for delivery in batch:
            delivery.done()
        context = self._context
        written = WrittenBatch(batch[0].previous + 1, last, began, time.time())
        await notify(context.js, context.projection, self.partition, context.partitions, written)

    async def _write(self, owned: OwnedPartition, batch: Sequence[Delivery]) -> int:
        """One try at it, which may be repeated; returns how many messages were new."""
        delivered = read_events(self._context, owned, batch)
        await write_events(self._context, owned, delivered.events)
        if delivered.after_marker is not None:
            # The store has all that was published before the marker. Events after it may follow
            # on others that the stream never had, so they come last.
            await self._backfill(owned)
            await write_events(self._context, owned, delivered.after_marker)
        return delivered.messages


def _settle(done: asyncio.Future[Any], result: Any = None, error: Exception | None = None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
