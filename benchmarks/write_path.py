"""How fast commands are executed, beside the bare inserts of the same documents in the same run.

    python benchmarks/write_path.py [--seconds 2] [--rounds 5] [--in-flight 64] [--mongodb-url …]

Everything goes straight to the service object, without HTTP. The measurements take turns; the table
shows each one's median. Trust the ratios: rates depend on the machine and on what else it does.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern
from rich.console import Console
from rich.table import Table
from ulid import ULID

from api.accounts.commands import Deposit
from api.accounts.service import AccountService
from api.accounts.terms import Terms
from pipeline.embedded import EmbeddedServers
from pipeline.events import DEPOSITED, Event, new_event
from pipeline.eventstore import EventStore
from pipeline.preflight import free_ports
from pipeline.settings import Settings

ACCOUNTS: Final = 2000
"""More than are in flight, so that no two commands wait for one of them; all are remembered."""

Measure = Callable[[float], Awaitable[int]]
"""Works for so many seconds; returns how many events it stored."""


class Bench:
    """What is measured, on one database of its own."""

    def __init__(self, url: str, in_flight: int) -> None:
        self.database, self.in_flight = f"bench-{ULID()}"[:38].lower(), in_flight
        self.client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
            url, retryWrites=False, w="majority", journal=True
        )
        self.store = EventStore(url, self.database)
        self.service, self.forgetful = (
            AccountService(self.store, cached=cached) for cached in (10_000, 0)
        )
        self.accounts: list[str] = []
        self.forgotten: list[str] = []

    async def open(self) -> None:
        # Apart: what one service stores makes the states that another remembers old.
        for service, accounts in ((self.service, self.accounts), (self.forgetful, self.forgotten)):
            await service.open()
            for _ in range(0, ACCOUNTS, 250):
                opened = (service.create("Ada", 0, Terms("bench")) for _ in range(250))
                accounts += [done.account.id for done in await asyncio.gather(*opened)]

    async def close(self) -> None:
        await self.client.drop_database(self.database)
        await self.store.close()
        self.client.close()

    async def insert_one(self, seconds: float) -> int:
        documents = _documents(1)
        return await self._bare(seconds, lambda events: events.insert_one(next(documents)[0]), 1)

    async def insert_many(self, seconds: float) -> int:
        documents = _documents(self.in_flight)
        return await self._bare(
            seconds,
            lambda events: events.insert_many(next(documents), ordered=False),
            self.in_flight,
        )

    async def _bare(
        self, seconds: float, insert: Callable[[Any], Awaitable[Any]], size: int
    ) -> int:
        events = self.client[self.database].get_collection(
            "events", write_concern=WriteConcern("majority", j=True)
        )
        number, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            await insert(events)
            number += size
        return number

    async def cold(self, seconds: float) -> int:
        return await self._commands(self.service, self.accounts, seconds)

    async def loaded(self, seconds: float) -> int:
        return await self._commands(self.forgetful, self.forgotten, seconds)

    async def hot(self, seconds: float) -> int:
        return await self._commands(self.service, self.accounts[:1], seconds)

    async def keyed(self, seconds: float) -> int:
        return await self._commands(self.service, self.accounts[:1], seconds, keys=True)

    async def _commands(
        self, service: AccountService, accounts: list[str], seconds: float, *, keys: bool = False
    ) -> int:
        number, end, around = 0, time.monotonic() + seconds, itertools.cycle(accounts)

        async def client() -> None:
            nonlocal number
            while time.monotonic() < end:
                terms = Terms("bench", str(ULID()), "request") if keys else Terms("bench")
                await service.execute(next(around), Deposit(1), terms)
                number += 1

        await asyncio.gather(*(client() for _ in range(self.in_flight)))
        return number


def _documents(size: int) -> Iterator[list[Event]]:
    """Events as the service stores them, of accounts that do not exist."""
    while True:
        yield [new_event(str(ULID()), 2, DEPOSITED, {"money": 1}) for _ in range(size)]


@asynccontextmanager
async def mongodb(url: str | None) -> AsyncIterator[str]:
    """The server at the URL, or one of this run alone."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="bank-bench-") as folder:
        url = f"mongodb://127.0.0.1:{next(free_ports('127.0.0.1'))}"
        settings = Settings.model_validate({"data_dir": Path(folder), "mongodb_url": url})
        servers = EmbeddedServers(settings, ["mongodb"])
        await servers.start()
        try:
            yield url
        finally:
            await servers.stop()


async def measured(
    measures: dict[str, Measure], seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Events a second of each, round by round; one more round comes first and does not count."""
    rates: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(rounds + 1):
        for name, measure in measures.items():
            began = time.monotonic()
            number = await measure(seconds if turn else seconds / 4)
            if turn:
                rates[name].append(number / (time.monotonic() - began))
    return rates


def table(medians: dict[str, float], in_flight: int) -> Table:
    """Each rate, and how it compares with the two bare inserts."""
    shown = Table("", "events/s", "× insert_one", "× insert_many", title=f"{in_flight} in flight")
    for column in shown.columns[1:]:
        column.justify = "right"
    for name, rate in medians.items():
        against = (rate / medians[ONE], rate / medians[MANY])
        shown.add_row(name, f"{rate:,.0f}", *(f"{ratio:.2f}" for ratio in against))
    return shown


ONE: Final = "bare insert_one, one after another"
MANY: Final = "bare insert_many, as many as in flight"
COLD: Final = "service, many accounts"
HOT: Final = "service, one hot account"
GOALS: Final = [(HOT, COLD, 0.5), (COLD, ONE, 2.0), (COLD, MANY, 0.7)]


async def run(url: str | None, seconds: float, rounds: int, in_flight: int) -> None:
    console = Console()
    async with mongodb(url) as server:
        bench = Bench(server, in_flight)
        await bench.open()
        try:
            measures: dict[str, Measure] = {
                ONE: bench.insert_one,
                MANY: bench.insert_many,
                COLD: bench.cold,
                HOT: bench.hot,
                "the same, each with a key": bench.keyed,
                "service, many accounts, each to load": bench.loaded,
            }
            rates = await measured(measures, seconds, rounds)
        finally:
            await bench.close()
    medians = {name: statistics.median(each) for name, each in rates.items()}
    console.print(table(medians, in_flight))
    for name, base, goal in GOALS:
        ratio = medians[name] / medians[base]
        verdict = "reached" if ratio >= goal else "MISSED"
        console.print(f"{name} / {base}: {ratio:.2f}, goal {goal}: {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="of all measurements in turn")
    parser.add_argument("--in-flight", type=int, default=64, help="commands at the same time")
    parser.add_argument("--mongodb-url", help="a server that runs; else one is started")
    given = parser.parse_args()
    asyncio.run(run(given.mongodb_url, given.seconds, given.rounds, given.in_flight))


if __name__ == "__main__":
    main()
