"""(d) A rebuild, beside a bare cursor scan in the same order and beside a naive replay.

Then a worker rebuilds the same bank while it lives (live_rebuild.py).
"""

import time
from contextlib import aclosing
from typing import Any, Final

from benchmarks import live_rebuild
from benchmarks.bank import Bank
from benchmarks.figures import Result
from benchmarks.history import History
from benchmarks.rounds import interleaved
from benchmarks.size import Size
from pipeline.agents.rebuild.replay import Replay
from pipeline.agents.rebuild.throttle import ThrottledStore
from pipeline.banking.balance import BALANCE
from pipeline.eventstore import EventStore, driver
from pipeline.model.events import SLOTS
from pipeline.model.projection import Document
from pipeline.search import Elastic, Generation, Generations
from pipeline.support.settings import Settings
from pipeline.support.throttle import Throttle
from pipeline.tables.counters import Counters
from pipeline.tables.documents import AccountDocuments
from pipeline.tables.versioned_document import DocumentCache

TITLE: Final = "Rebuild"
ACCOUNTS: Final = 1_000
ORDER: Final = [("slot", 1), ("account_id", 1), ("version", 1)]
SCAN: Final = "bare cursor scan"
REPLAY: Final = "replay"
NAIVE: Final = "naive replay, each event indexed"


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
        self._generations = Generations(self._elastic, BALANCE)
        self._mongodb = driver.client(settings.mongodb_url)
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
        generation, began, count = Generation(self._number, "", BALANCE), time.perf_counter(), 0

        documents = AccountDocuments(
            self._elastic, generation, self.store, Nobody(), Counters(), DocumentCache(0)
        )
        work = Replay(ThrottledStore(self.store, Throttle()), documents, lambda _: None)
        async with aclosing(work.run(range(SLOTS))) as written:
            async for _, events in written:
                count += events
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
    await live_rebuild.measure(bank, settings, size, result)
    result.notes.append(
        f"{size.rebuilt} events of {ACCOUNTS} Zipf accounts; a worker rebuilds one partition at a "
        "time. Its rates are those of a whole rebuild, from the command to the swap."
    )
    return result
