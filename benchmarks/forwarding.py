"""(b) The forwarder, beside reading the same changes and publishing the same batches."""

import asyncio
import logging
import time
from typing import Any, Final

from bson import json_util

from benchmarks.bank import Bank
from benchmarks.figures import Result
from benchmarks.history import History
from benchmarks.rounds import interleaved
from benchmarks.size import Size
from benchmarks.stream import batches, connected, messages_of
from pipeline.coordination.partitioning import ensure_log
from pipeline.eventstore import EventStore, driver
from pipeline.forwarder.leader import Leader
from pipeline.forwarder.stream_publisher import PublisherCounters
from pipeline.messaging import TOKEN_HEADER, JetStream, OutgoingMessage
from pipeline.model.events import Event
from pipeline.model.names import BANK
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings

TITLE: Final = "Forwarder"
ACCOUNTS: Final = 2_000
DRAIN: Final = "bare drain of the change stream"
MOTOR: Final = "the driver's own watch()"
PUBLISH: Final = "bare atomic publish, 1000 each"
FORWARD: Final = "forwarder"
_POLL: Final = 0.005

log = logging.getLogger(__name__)


class Forwarding:
    """The same events again and again: each round begins at the token from before them."""

    def __init__(self, settings: Settings, js: JetStream, store: EventStore) -> None:
        self._settings, self._js, self._store = settings, js, store
        self._client = driver.client(settings.mongodb_url)
        self._database = self._client[settings.mongodb_database]
        self._messages: list[OutgoingMessage] = []
        self._token = ""

    async def fill(self, events: list[Event]) -> None:
        await self._store.setup()
        async with self._store.watch(None) as changes:
            self._token = (await anext(changes)).token
        documents: list[Any] = events
        for start in range(0, len(events), 1000):
            await self._database["events"].insert_many(documents[start : start + 1000])
        self._messages = messages_of(events, self._settings.partitions)

    def close(self) -> None:
        self._client.close()

    async def drain(self) -> float:
        """Changes a second by plain commands, 1000 at a time."""
        stages = [
            {"$changeStream": {"resumeAfter": json_util.loads(self._token)["after"]}},
            {"$match": {"operationType": "insert"}},
        ]
        began, count = time.perf_counter(), 0
        async with await self._client.start_session() as session:
            query = {"aggregate": "events", "pipeline": stages, "cursor": {"batchSize": 0}}
            cursor = (await self._database.command(query, session=session))["cursor"]
            more = {"getMore": cursor["id"], "collection": "events", "batchSize": 1000}
            while count < len(self._messages):
                cursor = (await self._database.command(more, session=session))["cursor"]
                count += len(cursor["nextBatch"])
        return count / (time.perf_counter() - began)

    async def watch(self) -> float:
        """Changes a second as the driver hands them out, one at a time."""
        began, count = time.perf_counter(), 0
        after = json_util.loads(self._token)["after"]
        async with self._database["events"].watch(resume_after=after, batch_size=1000) as changes:
            async for _ in changes:
                count += 1
                if count == len(self._messages):
                    break
        return count / (time.perf_counter() - began)

    async def publish(self) -> float:
        """Messages a second, encoded before, batch after batch."""
        last = await self._new_stream()
        began = time.perf_counter()
        for batch in batches(self._messages):
            last = await self._js.publish_batch(batch, last)
        return len(self._messages) / (time.perf_counter() - began)

    async def forward(self) -> float:
        """Events a second of a whole term, from before its first command."""
        await self._new_stream()
        counters, lost = PublisherCounters(), asyncio.Event()
        leader = Leader(self._settings, self._js, self._store, counters, Outage(log, "Forwarding"))
        began = time.perf_counter()
        leading = asyncio.create_task(leader.lead(lost))
        while counters.forwarded < len(self._messages):
            if leading.done():
                raise RuntimeError(f"the forwarder ended: {leading.exception()}")
            await asyncio.sleep(_POLL)
        took = time.perf_counter() - began
        await cancel_and_wait(leading)
        return counters.forwarded / took

    async def _new_stream(self) -> int:
        """A log that says only where to begin; returns its last sequence."""
        if await self._js.state(BANK.log) is not None:
            await self._js.context.delete_stream(BANK.log)
        await ensure_log(self._js, self._settings)
        token = OutgoingMessage(BANK.token_subject, b"", {TOKEN_HEADER: self._token})
        return await self._js.publish_batch([token], 0)


async def measure(bank: Bank, size: Size) -> Result:
    settings = await bank.fresh()
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    async with connected(settings) as js:
        work = Forwarding(settings, js, store)
        try:
            await work.fill(History(ACCOUNTS).next(size.forwarded))
            rates = await interleaved(
                {
                    DRAIN: work.drain,
                    MOTOR: work.watch,
                    PUBLISH: work.publish,
                    FORWARD: work.forward,
                },
                size.rounds,
            )
        finally:
            work.close()
            await store.close()
    result = Result()
    by_name = {name: result.add(name, "events/s", each) for name, each in rates.items()}
    slower = min(by_name[DRAIN], by_name[PUBLISH], key=lambda each: each.median)
    result.compare("forwarder / the slower of drain and publish", by_name[FORWARD], slower, 0.8)
    result.compare("forwarder / the driver's own watch()", by_name[FORWARD], by_name[MOTOR])
    result.notes.append(f"{size.forwarded} events a round; the slower is: {slower.name}.")
    return result
