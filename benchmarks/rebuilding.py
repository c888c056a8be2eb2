"""(d) A rebuild, beside a bare cursor scan in the same order and beside a naive replay.

Then a worker rebuilds a live bank, first with nobody there, then beside steady commands.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorClient

from benchmarks.bank import Bank
from benchmarks.children import started, working
from benchmarks.figures import Result, Spread
from benchmarks.history import History
from benchmarks.latency import FORWARDER
from benchmarks.load import Load, Seen, clients
from benchmarks.rounds import Measure, interleaved
from benchmarks.size import Size
from benchmarks.stream import connected
from pipeline.events import SLOTS
from pipeline.eventstore import EventStore
from pipeline.index import Elastic, Generation, Generations
from pipeline.projection import Document
from pipeline.projections import BALANCE
from pipeline.rebuild.jobs import Jobs
from pipeline.rebuild.replay import Pace, Replay
from pipeline.settings import Settings
from pipeline.tables.counters import Counters
from pipeline.tables.documents import Documents
from pipeline.tables.states import Cache

TITLE: Final = "Rebuild"
ACCOUNTS: Final = 1_000
ORDER: Final = [("slot", 1), ("account_id", 1), ("version", 1)]
SCAN: Final = "bare cursor scan"
REPLAY: Final = "replay"
NAIVE: Final = "naive replay, each event indexed"
QUIET: Final = "whole rebuild by a worker, no other load"
_AFTER: Final = 0.5
"""Seconds between a rebuild and the next one."""


class Nobody(dict[str, Any]):
    """Nobody is parked here."""

    async def park(self, account_id: str, **about: Any) -> None:
        raise AssertionError(account_id)

    async def drop(self, account_id: str) -> bool:
        return False


class Rebuilding:
    """The same events read again and again."""

    def __init__(self, settings: Settings, naive: int) -> None:
        self.store = EventStore(settings.mongodb_url, settings.mongodb_database)
        self._elastic, self._naive = Elastic(settings.elasticsearch_url), naive
        self._generations = Generations(self._elastic)
        self._mongodb: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(settings.mongodb_url)
        self._events = self._mongodb[settings.mongodb_database]["events"]
        self._number = 100

    async def close(self) -> None:
        await self._elastic.close()
        await self.store.close()
        self._mongodb.close()

    async def fill(self, events: int) -> None:
        await self.store.setup()
        documents: list[Any] = History(ACCOUNTS).next(events)
        for start in range(0, events, 1000):
            await self._events.insert_many(documents[start : start + 1000])

    async def scan(self) -> float:
        """Events a second of the bare cursor, by the ranges of slots that the store reads by."""
        began, count = time.perf_counter(), 0
        for start in range(0, SLOTS, 64):
            query = {"slot": {"$gte": start, "$lt": start + 64}}
            cursor = self._events.find(query).sort(ORDER).batch_size(1000)
            while page := await cursor.to_list(1000):
                count += len(page)
        return count / (time.perf_counter() - began)

    async def replay(self) -> float:
        """Events a second into an empty generation, with nothing else going on."""
        self._number += 1
        await self._generations.create(self._number, refresh="-1")
        generation, began, count = Generation(self._number, ""), time.perf_counter(), 0

        async def reached(_: int, events: int) -> None:
            nonlocal count
            count += events

        documents = Documents(self._elastic, generation, self.store, Nobody(), Counters(), Cache(0))
        work = Replay(self.store, documents, Pace(0), lambda _: None, reached)
        await work.run(range(SLOTS), await self.store.estimate())
        rate = count / (time.perf_counter() - began)
        await self._elastic.client.indices.delete(index=f"balance-{self._number}")
        return rate

    async def naive(self) -> float:
        """Events a second with an awaited index call for each, of the first ones only."""
        self._number += 1
        await self._generations.create(self._number)
        index, began, count = f"balance-{self._number}", time.perf_counter(), 0
        document: Document | None = None
        async for events in self.store.replay(range(SLOTS)):
            for event in events[: self._naive - count]:
                same = document is not None and document["id"] == event["account_id"]
                document = BALANCE.fold(document if same else None, event)
                await self._elastic.client.index(index=index, id=document["id"], document=document)
                count += 1
            if count == self._naive:
                break
        rate = count / (time.perf_counter() - began)
        await self._elastic.client.indices.delete(index=index)
        return rate


async def rebuilt(jobs: Jobs, settings: Settings, store: EventStore) -> float:
    """Rebuild all partitions, one at a time, and wait for the end; events a second."""
    events, began = await store.estimate(), time.monotonic()
    partitions = settings.partitions
    job, _ = await jobs.start("online", range(partitions), partitions)
    while (now := jobs.job(job.id)) is None or now.phase in ("wanted", "building"):
        await asyncio.sleep(0.02)
        await jobs.refresh()
    if now.phase in ("failed", "cancelled"):
        raise RuntimeError(f"the rebuild {now.phase}: {now.reason}")
    rate = events / (time.monotonic() - began)
    while (now := jobs.job(job.id)) is not None and now.active:
        await asyncio.sleep(0.05)
        await jobs.refresh()
    await asyncio.sleep(_AFTER)
    return rate


async def measure(bank: Bank, size: Size) -> Result:
    result = Result()
    settings = await bank.fresh(rebuild_grace_seconds=0)
    work = Rebuilding(settings, size.naive)
    try:
        await work.fill(size.rebuilt)
        measures = {SCAN: work.scan, REPLAY: work.replay, NAIVE: work.naive}
        rates = await interleaved(measures, size.rounds)
    finally:
        await work.close()
    by_name = {name: result.add(name, "events/s", each) for name, each in rates.items()}
    result.compare("replay / bare scan", by_name[REPLAY], by_name[SCAN], 0.7)
    result.compare("replay / naive replay", by_name[REPLAY], by_name[NAIVE])
    await _live(bank, settings, size, result)
    result.notes.append(
        f"{size.rebuilt} events of {ACCOUNTS} Zipf accounts; a worker rebuilds one partition at a "
        "time. Its rates are those of a whole rebuild, from the command to the swap."
    )
    return result


async def _live(bank: Bank, settings: Settings, size: Size, result: Result) -> None:
    rates: dict[str, list[float]] = {QUIET: []}
    beside = f"whole rebuild by a worker, beside {size.beside} commands/s"
    rates[beside] = []
    before, during = Seen(), Seen()
    async with AsyncExitStack() as stack:
        js = await stack.enter_async_context(connected(settings))
        await stack.enter_async_context(working(bank, settings))
        forwarder = await stack.enter_async_context(started(bank, settings, FORWARDER))
        await forwarder.ready()
        load = await stack.enter_async_context(clients(settings))
        await load.steady(size.beside, size.seconds)  # until all is settled
        store = EventStore(settings.mongodb_url, settings.mongodb_database)
        stack.push_async_callback(store.close)
        jobs = Jobs(js)

        async def rebuild() -> float:
            return await rebuilt(jobs, settings, store)

        for _ in range(size.rounds):
            seen = await load.steady(size.beside, size.seconds)
            before.due += seen.due
            rates[QUIET].append(await rebuild())
            rates[beside].append(await _beside(load, rebuild, size, during))
    quiet, loaded = (result.add(name, "events/s", each) for name, each in rates.items())
    result.compare("rebuild beside load / without", loaded, quiet)
    commands = f"{size.beside} commands/s to visible"
    result.spreads.append(Spread(f"{commands}, no rebuild", before.due))
    result.spreads.append(Spread(f"{commands}, during a rebuild", during.due))


async def _beside(load: Load, rebuild: Measure, size: Size, during: Seen) -> float:
    over = asyncio.Event()
    sending = asyncio.create_task(load.steady(size.beside, 600, over))
    try:
        return await rebuild()
    finally:
        over.set()
        during.due += (await sending).due
