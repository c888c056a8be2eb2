"""The applier: takes a partition, and applies its deliveries to the live generation for ever.

It never gives up and never raises. Whatever goes wrong, it takes the partition anew, by the state
of things as it finds it then: another generation, another stream, a checkpoint that went back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import orjson

from pipeline.ending import ended
from pipeline.epochs import raise_epoch
from pipeline.events import Event
from pipeline.index import GenerationGone
from pipeline.jetstream import RESYNC
from pipeline.outage import Outage
from pipeline.shared import Shared, Taken
from pipeline.source import Delivery, starting_position, stream_state
from pipeline.synchronise import Progress, synchronise
from pipeline.tables.balances import Balances, State
from pipeline.tables.checkpoints import Fenced, Lost, Position

log = logging.getLogger(__name__)

T = TypeVar("T")

MERGED: Final = 2000
"""Queued deliveries are applied together up to about so many messages."""
QUEUED: Final = 8


class Applier:
    """One owned partition. `taken` is None while it is being taken or synchronised."""

    def __init__(self, partition: int, shared: Shared) -> None:
        self.partition, self.take = partition, 0
        self.taken: Taken | None = None
        self.progress: Progress | None = None
        self._shared = shared
        self._inbox: asyncio.Queue[Delivery] = asyncio.Queue(QUEUED)
        self._open = 0
        self._writing: asyncio.Task[None] | None = None
        self._interrupt: asyncio.Future[Exception] | None = None
        self._outage = Outage(log, f"partition {partition}", most=2.0)
        self._attempt = 0

    @property
    def idle(self) -> bool:
        """Whether everything that was offered is applied."""
        return self.taken is not None and not self._open and self._inbox.empty()

    async def offer(self, delivery: Delivery) -> None:
        """Queue a delivery; waits while too many are queued. Stale ones are thrown away."""
        if delivery.take == self.take:
            await self._inbox.put(delivery)

    def close(self) -> None:
        """Let go of deliveries that wait to be queued; `run` is to be cancelled."""
        self.take = -1
        self._empty()

    def retake(self, reason: Exception) -> None:
        """Leave whatever is under way, and take the partition anew."""
        self.taken = None
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
                self.taken, self.progress = None, None
                await ended(work)
            await self._say(work)

    async def _say(self, work: asyncio.Task[None]) -> None:
        """Log why the partition is taken anew, and wait a little."""
        self._shared.counters.retaken += 1
        error = None if work.cancelled() else work.exception()
        if self._interrupt is not None and self._interrupt.done():
            error = self._interrupt.result()
        if isinstance(error, Fenced):
            self._attempt = max(self._attempt, 3)  # the other one may well be right
        log.debug("partition %d is taken anew", self.partition, exc_info=error)
        await self._outage.pause(error or Lost("stopped"), self._attempt)
        self._attempt += 1

    async def _work(self) -> None:
        """Take the partition; then prepare each batch while the one before it is written."""
        self._open = 0
        taken = await self._take()
        try:
            while True:
                batch = await self._next()
                self._open += 1
                states = await self._persistently(lambda batch=batch: self._prepare(taken, batch))  # type: ignore[misc]
                await self._written(taken)
                taken.reached = max(taken.reached, *(delivery.last for delivery in batch))
                self._writing = asyncio.create_task(self._write(taken, batch, states))
        finally:
            if self._writing is not None:
                await ended(self._writing)
                self._writing = None

    async def _persistently(self, step: Callable[[], Awaitable[T]]) -> T:
        """Repeat a step that may be repeated, as long as the partition need not be taken anew."""
        attempt = 0
        while True:
            try:
                result = await step()
            except (GenerationGone, Lost):
                raise
            except Exception as error:
                await self._outage.pause(error, attempt)
                attempt += 1
            else:
                self._outage.over()
                return result

    # ---------------------------------------------------------------- taking

    async def _take(self) -> Taken:
        """Become the owner, and start where all before is in the live generation."""
        shared, partition = self._shared, self.partition
        self.take += 1
        self._empty()
        generation = await shared.generations.ensure_live()
        stream = await stream_state(shared.js)
        claim = await shared.checkpoints.claim(
            partition,
            generation,
            stream.created,
            lambda above: raise_epoch(shared.js, partition, shared.owner, above),
        )
        floor = await shared.source.seek(partition, None, self.take)
        state = await stream_state(shared.js)
        if state.created != stream.created:
            raise Lost("the stream was made anew")
        start = starting_position(claim, floor, state)
        if start is None:
            position = await shared.source.seek(partition, state.last, self.take)
        elif start < floor:
            position = await shared.source.seek(partition, start, self.take)
        else:
            position = start
        balances = Balances(
            shared.elastic,
            generation.alias,
            partition,
            shared.store,
            shared.counters,
            capacity=shared.capacity,
        )
        taken = Taken(
            generation,
            stream.created,
            claim.epoch,
            balances,
            position,
            min(position, floor),
            position,
        )
        if start is None:
            await self._persistently(lambda: self._synchronise(taken))
        at = {partition: Position(taken.epoch, taken.position, taken.applied)}
        for failure in (await shared.checkpoints.write(at, back=True)).values():
            raise failure
        log.info(
            "partition %d goes on after %d (epoch %d, %s)",
            partition,
            position,
            claim.epoch,
            generation.index,
        )
        self._outage.over()
        self.taken = taken
        return taken

    async def _synchronise(self, taken: Taken) -> None:
        shared = self._shared
        async with shared.synchronising:
            log.info("partition %d: synchronising from the event store", self.partition)
            report = await synchronise(
                self.partition, shared.partitions, shared.store, taken.balances, self._note
            )
        self.progress = None
        shared.counters.synchronised += 1
        log.info(
            "partition %d: synchronised, %d events of %d accounts, %d documents written in %.1f s",
            self.partition,
            report.events,
            report.accounts,
            report.written,
            report.seconds,
        )

    def _empty(self) -> None:
        while not self._inbox.empty():
            self._inbox.get_nowait()

    def _note(self, progress: Progress) -> None:
        self.progress = progress

    # ---------------------------------------------------------------- applying

    async def _next(self) -> list[Delivery]:
        """The next delivery, and those that are queued behind it; stale ones are left out."""
        batch: list[Delivery] = []
        count = 0
        while not batch or (count < MERGED and not self._inbox.empty()):
            delivery = await self._inbox.get()
            if delivery.take == self.take:
                batch.append(delivery)
                count += len(delivery.messages)
        return batch

    async def _prepare(self, taken: Taken, batch: Sequence[Delivery]) -> list[State]:
        """What is to be written for the deliveries; a marker among them is seen to at once."""
        events: list[Event] = []
        reached = max(taken.reached, taken.position)
        for delivery in batch:
            if delivery.previous > reached:
                raise Lost(f"nothing was delivered between {reached} and {delivery.previous}")
            for sequence, data in delivery.messages:
                if sequence <= reached:
                    continue
                event = orjson.loads(data)
                if event["kind"] == RESYNC:
                    await self._written(taken)
                    await taken.balances.apply(events)
                    events.clear()
                    await self._synchronise(taken)
                else:
                    events.append(event)
            reached = max(reached, delivery.last)
        return await taken.balances.prepare(events)

    async def _write(self, taken: Taken, batch: Sequence[Delivery], states: list[State]) -> None:
        """Write the deliveries' documents, then say that they are done."""
        try:
            await self._persistently(lambda: taken.balances.write(states))
        except (GenerationGone, Lost) as error:
            self.retake(error)
            return
        last = max(delivery.last for delivery in batch)
        taken.position = max(taken.position, last)
        taken.applied = max(taken.applied, last)
        self._attempt = 0
        self._open -= 1
        for delivery in batch:
            delivery.done()

    async def _written(self, taken: Taken) -> None:
        """Wait for the batch that is being written. Raises `Lost` when that came to nothing."""
        if self._writing is not None:
            await self._writing
        if self.taken is not taken:
            raise Lost("it is being taken anew")
