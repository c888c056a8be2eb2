"""What workers do with one log of several, without Faust and Elasticsearch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from faust.types import TP
from nats.errors import Error as NatsError

from pipeline.banking.events import WITHDRAWN
from pipeline.bridge.durable import Durable
from pipeline.coordination.partitioning import Partitioning, partitioning
from pipeline.eventstore import EventStore
from pipeline.messaging import MARKER, JetStream, JetStreamError, StoredMessage
from pipeline.messaging.stream_reader import read
from pipeline.model.events import SLOTS, Event, decode, slots_of
from pipeline.support.cancellation import cancel_and_wait
from tests.names import STREAM, subject

POLL = 0.02


@dataclass
class Documents:
    """Version and balance of each account, folded from all logs; `gaps`: accounts of which an event
    came before one of a lower version."""

    accounts: dict[str, tuple[int, int]] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)

    def fold(self, event: Event) -> bool:
        """Take an event, or an older one again. False: a gap, so that it can't be taken."""
        account_id, money = event["account_id"], event["body"]["money"]
        version, balance = self.accounts.get(account_id, (0, 0))
        if event["version"] > version + 1:
            self.gaps.append(account_id)
            return False
        if event["version"] == version + 1:
            change = -money if event["kind"] == WITHDRAWN else money
            self.accounts[account_id] = (version + 1, balance + change)
        return True


class Worker:
    """Reads the log of some slots, a task for each partition, and acks what it has folded.

    A partition has those slots of its number that are the log's. `backfills`: markers obeyed.
    """

    def __init__(
        self, js: JetStream, store: EventStore, slots: range, documents: Documents
    ) -> None:
        self._js, self._store, self._slots = js, store, slots
        self._documents = documents
        self.backfills = 0

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work while the block runs; raise what ended the work before."""
        task = asyncio.create_task(self._work())
        yield
        if task.done():
            task.result()
        await cancel_and_wait(task)

    async def _work(self) -> None:
        while True:
            now, state = await partitioning(self._js), await self._js.state(STREAM)
            if now is not None and state is not None:
                readers = [asyncio.create_task(self._keep(p, now)) for p in range(now.count)]
                try:
                    await self._in_force(now, state.created)
                finally:
                    for each in readers:
                        await cancel_and_wait(each)
            await asyncio.sleep(POLL)

    async def _in_force(self, now: Partitioning, created: str) -> None:
        """Return when the log has another number of partitions, or is another log."""
        while True:
            there, state = await partitioning(self._js), await self._js.state(STREAM)
            if there is None or not there.same_as(now):
                return
            if state is None or state.created != created:
                return
            await asyncio.sleep(POLL)

    async def _keep(self, partition: int, now: Partitioning) -> None:
        while True:
            try:
                await self._read(partition, now)
            except (NatsError, JetStreamError):  # the stream was deleted, say
                await asyncio.sleep(POLL)

    async def _read(self, partition: int, now: Partitioning) -> None:
        durable = Durable(self._js, TP(STREAM, partition), STREAM, 2.0)
        await durable.ensure()
        position = await durable.reset(max(await durable.reset(None), now.at))
        while True:
            query = {"seq": position + 1, "next_by_subj": subject(partition), "batch": 200}
            for message in (found := await read(self._js, STREAM, query)):
                await self._apply(partition, now, message)
            if found:
                position = await durable.reset(found[-1].sequence)
            else:
                await asyncio.sleep(POLL)

    async def _apply(self, partition: int, now: Partitioning, message: StoredMessage) -> None:
        if message.data != MARKER:
            event = decode(message.data)
            if not self._documents.fold(event):
                for each in await self._store.load(event["account_id"]):
                    self._documents.fold(each)
            return
        ours = [slot for slot in slots_of(partition, now.count) if slot in self._slots]
        async for events in self._store.replay(ours):
            for event in events:
                self._documents.fold(event)
        self.backfills += 1


async def stored(store: EventStore) -> list[Event]:
    return [event async for events in store.replay(range(SLOTS)) for event in events]


async def complete(store: EventStore, documents: Documents) -> bool:
    """Whether the documents are the fold of all that is stored; False: not yet."""
    whole = Documents()
    for event in await stored(store):
        whole.fold(event)
    return whole.accounts == documents.accounts
