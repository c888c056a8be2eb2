"""Histories, a stream's reader and an exact comparison, for tests of the projection."""

import asyncio
import base64
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import nats.errors
import orjson
from ulid import ULID

from pipeline.agents.projection_runner import ProjectionRunner
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import CREATED, DEPOSITED, OWNER_UPDATED, WITHDRAWN
from pipeline.eventstore import EventStore
from pipeline.messaging import MARKER, JetStream, JetStreamError, OutgoingMessage
from pipeline.model.events import SLOTS, Event, encode, new_event, partition_of
from pipeline.model.plain import plain
from pipeline.model.projection import Document, Projection
from pipeline.search.scan import IndexScan
from pipeline.support.cancellation import cancel_and_wait
from tests.names import STREAM, subject

PARTITIONS = 4

T = TypeVar("T")


def history(account_id: str, length: int, seed: int = 0) -> list[Event]:
    """A valid history of so many events."""
    rng = random.Random(seed)
    events = [new_event(account_id, 1, CREATED, {"owner": "Ada", "money": 1000})]
    for version in range(2, length + 1):
        kind = rng.choice([DEPOSITED, WITHDRAWN, OWNER_UPDATED])
        if kind == OWNER_UPDATED:
            events.append(new_event(account_id, version, kind, {"owner": f"Ada {version}"}))
        else:
            events.append(new_event(account_id, version, kind, {"money": rng.randint(1, 9)}))
    return events


def as_delivered(events: Iterable[Event]) -> list[Event]:
    """Events as JSON gives them back from the stream."""
    return [orjson.loads(encode(event)) for event in events]


def accounts(count: int, length: int = 3) -> list[list[Event]]:
    """Histories of new accounts."""
    return [history(str(ULID()), length, seed) for seed in range(count)]


async def append(store: EventStore, histories: Iterable[Sequence[Event]]) -> None:
    """Store whole histories, event by event in order of version."""
    for layer in itertools.zip_longest(*histories):
        await asyncio.gather(*(store.append(event) for event in layer if event is not None))


async def publish(js: JetStream, events: Iterable[Event], partitions: int = PARTITIONS) -> None:
    """Publish in the given order, as the forwarder would."""
    messages = [
        OutgoingMessage(subject(partition_of(e["slot"], partitions)), encode(e)) for e in events
    ]
    for batch in (messages[i : i + 500] for i in range(0, len(messages), 500)):
        state = await js.state(STREAM)
        assert state is not None
        await js.publish_batch(batch, state.last)


async def publish_markers(js: JetStream, partitions: int = PARTITIONS) -> None:
    state = await js.state(STREAM)
    assert state is not None
    await js.publish_batch(
        [OutgoingMessage(subject(p), MARKER) for p in range(partitions)], state.last
    )


def stored(shown: dict[str, Any]) -> dict[str, Any]:
    """A document of an account as workers write it, of what readers are shown of it."""
    return {**shown, "owner_plain": plain(shown["owner"])} if "owner" in shown else shown


async def documents(url: str, projection: Projection = BALANCE) -> dict[str, dict[str, Any]]:
    """Everything that readers of a projection may see, by id."""
    survey = IndexScan(url, projection.alias)
    try:
        found: dict[str, dict[str, Any]] = {}
        async for ids in survey.ids():
            found |= await survey.documents(ids)
        return found
    finally:
        await survey.close()


async def folds(store: EventStore, projection: Projection = BALANCE) -> dict[str, Document]:
    """What every document has to be, by the event store; a poison event ends a history."""
    expected: dict[str, Document] = {}
    histories: dict[str, list[Event]] = {}
    async for events in store.replay(range(SLOTS)):
        for event in events:
            histories.setdefault(event["account_id"], []).append(event)
    for events in histories.values():
        expected |= {each["id"]: each for each in projection.replay(events).documents}
    return expected


async def exact(url: str, store: EventStore, projection: Projection = BALANCE) -> bool:
    """Whether the projection is exactly what the store says: none wrong, missing or extra."""
    return await documents(url, projection) == await folds(store, projection)


class Lot(dict[str, dict[str, Any]]):
    """Parked accounts, in memory."""

    async def park(self, account_id: str, **about: Any) -> None:
        self[account_id] = about

    async def drop(self, account_id: str) -> bool:
        return self.pop(account_id, None) is not None


@dataclass(frozen=True, slots=True)
class Batch:
    """A delivery."""

    partition: int
    acquisition: int
    previous: int
    last: int
    messages: list[tuple[int, bytes]]
    finished: "asyncio.Queue[Batch]"

    def read(self, how: Callable[[bytes], T]) -> list[T]:
        return [how(data) for _, data in self.messages]

    def done(self) -> None:
        self.finished.put_nowait(self)


class StreamSource:
    """Reads the real stream message by message, checkpoints, then acks: raises `floors`.

    `tamper` may drop, repeat or reorder the messages of a delivery; `acks` False acks none.
    """

    def __init__(self, js: JetStream, floors: dict[int, int]) -> None:
        self.js, self.floors = js, floors
        self.runner: ProjectionRunner | None = None
        self.acks = True
        self.tamper: Callable[[list[tuple[int, bytes]]], list[tuple[int, bytes]]] = list
        self._finished: asyncio.Queue[Batch] = asyncio.Queue()
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._acker = asyncio.create_task(self._ack())

    async def seek(self, partition: int, sequence: int | None, acquisition: int) -> int:
        await self._stop(partition)
        if sequence is not None:
            self.floors[partition] = sequence
        position = self.floors.get(partition, 0)
        self._readers[partition] = asyncio.create_task(self._read(partition, acquisition, position))
        return position

    async def contested(self, partition: int) -> None:
        """Nobody else is to have it."""

    async def fall_silent(self) -> None:
        """Read no more, until the next seek."""
        for partition in list(self._readers):
            await self._stop(partition)

    async def close(self) -> None:
        await self.fall_silent()
        await cancel_and_wait(self._acker)

    async def _stop(self, partition: int) -> None:
        task = self._readers.pop(partition, None)
        if task is not None:
            await cancel_and_wait(task)

    async def _read(self, partition: int, acquisition: int, position: int) -> None:
        while True:
            messages: list[tuple[int, bytes]] = []
            at = position
            while len(messages) < 20 and (message := await self._after(partition, at)):
                messages.append(message)
                at = message[0]
            if not messages:
                await asyncio.sleep(0.02)
                continue
            tampered = self.tamper(messages)
            batch = Batch(partition, acquisition, position, at, tampered, self._finished)
            position = at
            assert self.runner is not None
            await self.runner.offer(batch)

    async def _after(self, partition: int, sequence: int) -> tuple[int, bytes] | None:
        wanted = {"seq": sequence + 1, "next_by_subj": subject(partition)}
        try:
            answer = await self.js.api(f"STREAM.MSG.GET.{STREAM}", wanted)
        except (JetStreamError, nats.errors.Error):  # no such message, stream or server
            return None
        message = answer["message"]
        return message["seq"], base64.b64decode(message["data"])

    async def _ack(self) -> None:
        while True:
            batches = [await self._finished.get()]
            while not self._finished.empty():
                batches.append(self._finished.get_nowait())
            last = {batch.partition: batch.last for batch in batches}
            assert self.runner is not None
            for partition in await self.runner.checkpoint(last):
                if self.acks:
                    floor = self.floors.get(partition, 0)
                    self.floors[partition] = max(floor, last[partition])
