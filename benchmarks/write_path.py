"""(a) Commands, beside bare inserts of the same kind of documents by the same driver.

Everything goes straight to the service object, without HTTP.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from pymongo import WriteConcern
from ulid import ULID

from api.accounts.service import AccountService
from benchmarks.bank import Bank
from benchmarks.figures import Result
from benchmarks.history import SEED, History, Zipf
from benchmarks.rounds import interleaved
from benchmarks.size import Size
from pipeline.banking.account import ACCOUNT
from pipeline.banking.commands import Deposit
from pipeline.commands import CommandContext, CommandService
from pipeline.eventstore import EventStore, driver
from pipeline.support.settings import Settings

TITLE: Final = "Write path"
IN_FLIGHT: Final = 64
ACCOUNTS: Final = 2_000
"""All are remembered by a service that remembers any."""
_FEWER: Final = 4
"""Loading is slow: so many times fewer commands say as much."""

LONE: Final = "bare insert_one, one after another"
ONE: Final = "bare insert_one, 64 in flight"
MANY: Final = "bare insert_many of 64"
ZIPF: Final = "service, Zipf accounts"
EVEN: Final = "service, each account in turn"
HOT: Final = "service, one hot account"
KEYED: Final = "service, one hot account, each with a key"
COLD: Final = "service, each account to load"


class WritePath:
    """What is measured, on one database."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._count = count
        self._client = driver.client(settings.mongodb_url, retryWrites=False)
        database = self._client[settings.mongodb_database]
        self._events = database.get_collection(
            "events", write_concern=WriteConcern("majority", j=True)
        )
        self._store = EventStore(settings.mongodb_url, settings.mongodb_database)
        # Apart: what one service stores makes the states that another remembers old.
        self._service, self._forgetful = (
            AccountService(CommandService(self._store, [ACCOUNT], cached=cached))
            for cached in (10_000, 0)
        )
        self._accounts: list[str] = []
        self._forgotten: list[str] = []
        self._chance, self._zipf = random.Random(SEED), Zipf(ACCOUNTS, random.Random(SEED))
        self._history = History(ACCOUNTS)

    async def open(self, accounts: int = ACCOUNTS) -> None:
        for service, ids in ((self._service, self._accounts), (self._forgetful, self._forgotten)):
            await service.open()
            for _ in range(0, accounts, 250):
                opened = (service.create("Ada", 0, CommandContext("bench")) for _ in range(250))
                ids += [done.after.id for done in await asyncio.gather(*opened)]

    async def close(self) -> None:
        await self._store.close()
        self._client.close()

    async def insert_one(self, in_flight: int) -> float:
        left = iter(self._history.next(self._count))
        return await self._clients(in_flight, left, self._events.insert_one)

    async def insert_many(self) -> float:
        events = self._history.next(self._count)
        rows = (events[i : i + IN_FLIGHT] for i in range(0, len(events), IN_FLIGHT))
        return await self._clients(
            1, rows, lambda row: self._events.insert_many(row, ordered=False)
        )

    async def commands(self, accounts: Sequence[str], *, keys: bool = False) -> float:
        """Deposits into these accounts, in this order, round and round."""
        service = self._forgetful if accounts is self._forgotten else self._service
        count = self._count // (_FEWER if service is self._forgetful else 1)
        left = (accounts[number % len(accounts)] for number in range(count))

        async def deposit(account: str) -> None:
            context = (
                CommandContext("bench", str(ULID()), "request") if keys else CommandContext("bench")
            )
            await service.execute(account, Deposit(1), context)

        return await self._clients(IN_FLIGHT, left, deposit, count)

    async def _clients(
        self,
        number: int,
        left: Iterator[Any],
        work: Callable[[Any], Awaitable[Any]],
        count: int | None = None,
    ) -> float:
        """Events a second, when so many clients do what is left."""

        async def client() -> None:
            for each in left:
                await work(each)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(number)))
        return (count or self._count) / (time.perf_counter() - began)

    async def rounds(self, rounds: int) -> dict[str, list[float]]:
        often = [self._accounts[k % len(self._accounts)] for k in self._zipf.take(self._count)]
        return await interleaved(
            {
                LONE: lambda: self.insert_one(1),
                ONE: lambda: self.insert_one(IN_FLIGHT),
                MANY: self.insert_many,
                ZIPF: lambda: self.commands(often),
                EVEN: lambda: self.commands(self._accounts),
                HOT: lambda: self.commands(self._accounts[:1]),
                KEYED: lambda: self.commands(self._accounts[:1], keys=True),
                COLD: lambda: self.commands(self._forgotten),
            },
            rounds,
        )


async def measure(bank: Bank, size: Size) -> Result:
    path = WritePath(await bank.fresh(), size.writes)
    try:
        await path.open()
        rates = await path.rounds(size.rounds)
    finally:
        await path.close()
    result = Result()
    by_name = {name: result.add(name, "events/s", each) for name, each in rates.items()}
    result.compare("write path / insert_one", by_name[ZIPF], by_name[ONE], 2.0)
    result.compare("write path / insert_many", by_name[ZIPF], by_name[MANY], 0.7)
    result.compare("write path / insert_one, one after another", by_name[ZIPF], by_name[LONE])
    result.compare("hot account / many accounts", by_name[HOT], by_name[EVEN], 0.5)
    result.notes.append(
        f"{size.writes} commands a round into {ACCOUNTS} accounts, majority and journal."
    )
    return result
