"""The partition processor: acquires one partition, then applies its deliveries until cancelled.

It never gives up and never raises. Whatever goes wrong, it acquires the partition again, from the
state it finds then: another generation, another stream, a checkpoint that went back.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from pipeline.agents.acquire import acquire
from pipeline.agents.apply import apply
from pipeline.agents.backfill import BackfillProgress, backfill
from pipeline.agents.context import OwnedPartition, ProjectionContext
from pipeline.agents.source import Delivery
from pipeline.messaging.notifications import notify
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

Step = Callable[[OwnedPartition], Awaitable[Any]]


class PartitionProcessor:
    """One owned partition. `taken` is None while it is being acquired or backfilled."""

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
        """Whether everything that was offered is applied."""
        return self.owned is not None and not self._busy and self._inbox.empty()

    async def offer(self, delivery: Delivery) -> None:
        """Queue a delivery; waits while too many are queued. Stale ones are thrown away."""
        if delivery.acquisition == self.acquisition:
            await self._inbox.put(delivery)

    async def between(self, step: Callable[[OwnedPartition], Awaitable[T]]) -> T:
        """Run a step between two batches, when nothing of the partition is under way.

        Raises what the step raises; `PositionLost` when the partition is acquired again or released
        meanwhile.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._steps.append((step, done))
        if self._inbox.empty():
            self._inbox.put_nowait(None)
        return await done

    def close(self) -> None:
        """Let go of deliveries that wait to be queued; `run` is to be cancelled."""
        self.acquisition = -1
        self._empty()
        self._refuse_steps()

    def reacquire(self, reason: Exception) -> None:
        """Leave whatever is under way, and acquire the partition again."""
        self.owned = None
        if self._interrupt is not None and not self._interrupt.done():
            self._interrupt.set_result(reason)

    async def run(self) -> None:
        """Own the partition until cancelled."""
        while True:
            self._interrupt = asyncio.get_running_loop().create_future()
            work = asyncio.create_task(self._work())
            try:
                await asyncio.wait((work, self._interrupt), return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.owned, self.progress = None, None
                await cancel_and_wait(work)
            await self._say(work)

    async def _say(self, work: asyncio.Task[None]) -> None:
        """Log why the partition is acquired again, and wait a little."""
        self._context.counters.reacquired += 1
        error = None if work.cancelled() else work.exception()
        if self._interrupt is not None and self._interrupt.done():
            error = self._interrupt.result()
        if isinstance(error, CheckpointFenced):
            self._attempt = max(self._attempt, 3)  # the other one may well be right
            await self._context.source.contested(self.partition)
        log.debug("%s is acquired again", self._named, exc_info=error)
        await self._outage.pause(error or PositionLost("stopped"), self._attempt)
        self._attempt += 1

    async def _work(self) -> None:
        """Take the partition; then apply batch after batch, with steps between them."""
        self._busy = False
        owned = await self._acquire()
        while True:
            batch = await self._next()
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
            _settle(self._steps.popleft()[1], error=PositionLost("the partition was let go"))

    async def _persistently(self, step: Callable[[], Awaitable[T]]) -> T:
        """Repeat a step until it works, unless the partition has to be acquired again."""
        attempt = 0
        while True:
            try:
                result = await step()
            except (GenerationGone, PositionLost):
                raise
            except Exception as error:
                await self._outage.pause(error, attempt)
                attempt += 1
            else:
                self._outage.over()
                return result

    # ---------------------------------------------------------------- taking

    async def _acquire(self) -> OwnedPartition:
        self.acquisition += 1
        self._empty()
        owned = await acquire(
            self._context, self.partition, self.acquisition, self._backfill_persistently
        )
        self._outage.over()
        self.owned = owned
        return owned

    async def _backfill_persistently(self, owned: OwnedPartition) -> None:
        await self._persistently(lambda: self._backfill(owned))

    async def _backfill(self, owned: OwnedPartition) -> None:
        """Bring in all that the store has: also what is replayed already of a generation."""
        context, slots = self._context, slots_of(self.partition, self._context.partitions)
        async with context.backfilling:
            log.info("%s: backfilling from the event store", self._named)
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

    def _empty(self) -> None:
        while not self._inbox.empty():
            self._inbox.get_nowait()

    def _note(self, progress: BackfillProgress) -> None:
        self.progress = progress

    # ---------------------------------------------------------------- applying

    async def _next(self) -> list[Delivery]:
        """The next delivery, and those that are queued behind it; stale ones are left out.

        None when there are steps to run.
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
        """Bring the deliveries' documents into the index, then say that they are done."""
        started = time.monotonic()
        count = await self._persistently(lambda: apply(self._context, owned, batch, self._backfill))
        last = max(delivery.last for delivery in batch)
        owned.position = owned.applied = max(owned.position, last)
        self._attempt = 0
        self._context.counters.batch(count, time.monotonic() - started)
        for delivery in batch:
            delivery.done()
        context = self._context
        await notify(context.js, context.projection, self.partition, context.partitions)


def _settle(done: asyncio.Future[Any], result: Any = None, error: Exception | None = None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
