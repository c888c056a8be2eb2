"""How fast a rebuild replays, and what it does to live traffic; all in one run.

    python benchmarks/rebuild.py [--events 20000] [--accounts 1000] [--rounds 3]

The replay is measured beside a bare cursor scan of the same events in the same order, and beside a
naive one that awaits an index call for each event. Then a worker rebuilds while the time from an
append to its document is sampled, before and during. Trust the ratios. `--elasticsearch-url` names
a server to use; the others are this run's own.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from rich.console import Console
from rich.table import Table
from ulid import ULID

from pipeline import forwarder
from pipeline.app import worker
from pipeline.embedded import EmbeddedServers
from pipeline.ending import ended
from pipeline.events import CREATED, DEPOSITED, SLOTS, Event, new_event
from pipeline.eventstore import EventStore
from pipeline.index import Elastic, Generations
from pipeline.jetstream import JetStream
from pipeline.preflight import free_ports
from pipeline.projection import Document
from pipeline.projections import BALANCE
from pipeline.rebuild.jobs import Jobs
from pipeline.rebuild.replay import Pace, Replay
from pipeline.settings import Settings
from pipeline.tables.counters import Counters
from pipeline.tables.documents import Documents
from pipeline.tables.states import Cache

NAIVE_EVENTS: Final = 1_000
ORDER: Final = [("slot", 1), ("account_id", 1), ("version", 1)]


class Nobody(dict[str, Any]):
    """Nobody is parked here."""

    async def park(self, account_id: str, **about: Any) -> None:
        raise AssertionError(account_id)

    async def drop(self, account_id: str) -> bool:
        return False


class Bench:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = EventStore(settings.mongodb_url, settings.mongodb_database)
        self.elastic = Elastic(settings.elasticsearch_url)
        self.generations = Generations(self.elastic)
        client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(settings.mongodb_url)
        self.events = client[settings.mongodb_database]["events"]
        self.accounts: list[str] = []
        self.versions: dict[str, int] = {}
        self._number = 100

    async def close(self) -> None:
        await self.elastic.close()
        await self.store.close()

    async def fill(self, accounts: int, events: int) -> None:
        await self.store.setup()
        self.accounts = [str(ULID()) for _ in range(accounts)]
        chance = random.Random(1)
        documents: list[Event] = []
        for number in range(events):
            account = self.accounts[number] if number < accounts else chance.choice(self.accounts)
            version = self.versions[account] = self.versions.get(account, 0) + 1
            if version == 1:
                event = new_event(account, 1, CREATED, {"owner": "Ada", "money": 1})
            else:
                event = new_event(account, version, DEPOSITED, {"money": 1})
            documents.append(event)
        for start in range(0, events, 1000):
            await self.events.insert_many(documents[start : start + 1000])  # type: ignore[arg-type]

    async def scan(self) -> float:
        """Events a second of the bare cursor, by the ranges of slots that the store reads by."""
        began, count = time.perf_counter(), 0
        for start in range(0, SLOTS, 64):
            query = {"slot": {"$gte": start, "$lt": start + 64}}
            cursor = self.events.find(query).sort(ORDER).batch_size(1000)
            while page := await cursor.to_list(1000):
                count += len(page)
        return count / (time.perf_counter() - began)

    async def replay(self) -> float:
        """Events a second into an empty generation, with nothing else going on."""
        self._number += 1
        await self.generations.create(self._number, refresh="-1")
        alias, began, count = f"balance-g{self._number}", time.perf_counter(), 0

        async def reached(_: int, events: int) -> None:
            nonlocal count
            count += events

        documents = Documents(self.elastic, alias, self.store, Nobody(), Counters(), Cache(0))
        work = Replay(self.store, documents, Pace(0), lambda _: None, reached)
        await work.run(range(SLOTS), await self.store.estimate())
        rate = count / (time.perf_counter() - began)
        await self.elastic.client.indices.delete(index=f"balance-{self._number}")
        return rate

    async def naive(self) -> float:
        """Events a second with an awaited index call for each, on the first thousand."""
        self._number += 1
        await self.generations.create(self._number)
        index, began, count = f"balance-{self._number}", time.perf_counter(), 0
        document: Document | None = None
        async for events in self.store.replay(range(SLOTS)):
            for event in events:
                same = document is not None and document["id"] == event["account_id"]
                document = BALANCE.fold(document if same else None, event)
                await self.elastic.client.index(index=index, id=document["id"], document=document)
                count += 1
                if count == NAIVE_EVENTS:
                    rate = count / (time.perf_counter() - began)
                    await self.elastic.client.indices.delete(index=index)
                    return rate
        raise SystemExit("too few events")

    # ---------------------------------------------------------------- beside live traffic

    async def latency(self, seconds: float, until: asyncio.Event | None = None) -> list[float]:
        """Milliseconds from an append to its document, of events one after another."""
        samples: list[float] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (until and until.is_set()):
            account = random.choice(self.accounts)
            self.versions[account] += 1
            event = new_event(account, self.versions[account], DEPOSITED, {"money": 1})
            await self.store.append(event)
            began = time.perf_counter()
            await self._visible(account, self.versions[account])
            samples.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(0.02)
        return samples

    async def _visible(self, account: str, version: int) -> None:
        while True:
            answer = await self.elastic.client.options(ignore_status=404).get(
                index="balance", id=account
            )
            if answer.body.get("found") and answer["_source"]["version"] >= version:
                return
            await asyncio.sleep(0.002)

    async def rebuild_under_load(self, seconds: float) -> tuple[list[float], list[float], float]:
        """Latency before, latency during a rebuild, and how long the rebuild took."""
        tasks = [
            asyncio.create_task(forwarder.run(self.settings)),
            asyncio.create_task(worker(self.settings)),
        ]
        js = await JetStream.connect(self.settings.nats_url, "benchmark")
        try:
            await self.latency(5)  # the worker synchronises first
            before = await self.latency(seconds)
            jobs, over = Jobs(js), asyncio.Event()
            began = time.monotonic()
            await jobs.start("online", range(self.settings.partitions), self.settings.partitions)
            sampling = asyncio.create_task(self.latency(600, over))
            while (current := jobs.current) is None or current.phase in ("wanted", "building"):
                await asyncio.sleep(0.1)
                await jobs.refresh()
            took = time.monotonic() - began
            over.set()
            return before, await sampling, took
        finally:
            for task in tasks:
                await ended(task)
            await js.close()


def percentiles(samples: list[float]) -> str:
    ordered = sorted(samples)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, {len(samples)} samples"


async def run(arguments: argparse.Namespace) -> None:
    console = Console()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bank-bench-"))
        ports = free_ports("127.0.0.1")
        urls = {
            name: f"{scheme}://127.0.0.1:{next(ports)}"
            for name, scheme in (("mongodb", "mongodb"), ("nats", "nats"), ("redis", "redis"))
        }
        urls["elasticsearch"] = arguments.elasticsearch_url or f"http://127.0.0.1:{next(ports)}"
        settings = Settings.model_validate(
            {"data_dir": Path(folder), **{f"{name}_url": url for name, url in urls.items()}}
        )
        own = [name for name in urls if name != "elasticsearch" or not arguments.elasticsearch_url]
        servers = EmbeddedServers(settings, own)
        await servers.start()
        stack.push_async_callback(servers.stop)
        bench = Bench(settings)
        stack.push_async_callback(bench.close)
        await bench.fill(arguments.accounts, arguments.events)
        rates: dict[str, list[float]] = {"bare cursor scan": [], "replay": [], "naive replay": []}
        for _ in range(arguments.rounds):
            for name, measure in zip(rates, (bench.scan, bench.replay, bench.naive), strict=True):
                rates[name].append(await measure())
        medians = {name: statistics.median(each) for name, each in rates.items()}
        shown = Table("", "events/s", "× scan")
        for name, rate in medians.items():
            shown.add_row(name, f"{rate:,.0f}", f"{rate / medians['bare cursor scan']:.2f}")
        console.print(shown)
        before, during, took = await bench.rebuild_under_load(arguments.seconds)
        console.print(f"append to document before:           {percentiles(before)}")
        console.print(f"append to document during a rebuild: {percentiles(during)}")
        console.print(f"the rebuild of {arguments.events:,} events took {took:.1f} s beside it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--elasticsearch-url")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
