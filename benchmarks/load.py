"""Commands at a steady rate, and how long each takes until its document shows it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from api.accounts.service import AccountService
from benchmarks.history import SEED, Zipf
from pipeline.banking.account import ACCOUNT
from pipeline.banking.commands import Deposit
from pipeline.commands import CommandContext, CommandService
from pipeline.eventstore import EventStore
from pipeline.search.client import Elastic
from pipeline.support.settings import Settings

ACCOUNTS: Final = 1_000
SAMPLED: Final = 100
"""Commands a second that are looked for in the projection, at most; an event is the same as any."""
_LOOK: Final = 0.002
_PATIENCE: Final = 60.0


@dataclass(slots=True)
class Seen:
    """Milliseconds from when a command was due, and from its acknowledgment, to its document."""

    due: list[float] = field(default_factory=list)
    acknowledged: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A command that was acknowledged and is looked for; times of the monotonic clock."""

    account: str
    version: int
    due: float
    acknowledged: float


class Load:
    """Clients of an account service, Zipf accounts, and one who looks at the projection."""

    def __init__(self, settings: Settings) -> None:
        self._store = EventStore(settings.mongodb_url, settings.mongodb_database)
        self._service = AccountService(CommandService(self._store, [ACCOUNT]))
        self._elastic = Elastic(settings.elasticsearch_url)
        self._zipf = Zipf(ACCOUNTS, random.Random(SEED))
        self._accounts: list[str] = []
        self._waiting: set[Waiting] = set()
        self._all_sent = False

    async def open(self) -> None:
        await self._service.open()
        for _ in range(0, ACCOUNTS, 250):
            opened = (self._service.create("Ada", 0, CommandContext("bench")) for _ in range(250))
            self._accounts += [done.after.id for done in await asyncio.gather(*opened)]

    async def close(self) -> None:
        await self._store.close()
        await self._elastic.close()

    async def closed(self, seconds: float, clients: int = 64) -> float:
        """As many commands as so many clients get done; returns when the first one was sent."""
        began = time.monotonic()

        async def client() -> None:
            while time.monotonic() < began + seconds:
                await self._deposit()

        await asyncio.gather(*(client() for _ in range(clients)))
        return began

    async def steady(self, rate: float, seconds: float, until: asyncio.Event | None = None) -> Seen:
        """Commands at times that are fixed beforehand, so that one that is slow delays no other."""
        seen, began, self._all_sent = Seen(), time.monotonic(), False
        every = max(1, round(rate / SAMPLED))
        looking = asyncio.create_task(self._look(seen))
        async with asyncio.TaskGroup() as sent:
            for number in range(int(rate * seconds)):
                due = began + number / rate
                if (until and until.is_set()) or looking.done():
                    break
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                sent.create_task(self._send(due, sampled=number % every == 0))
        self._all_sent = True
        async with asyncio.timeout(_PATIENCE):
            await looking
        return seen

    async def _send(self, due: float, *, sampled: bool) -> None:
        account, version = await self._deposit()
        if sampled:
            self._waiting.add(Waiting(account, version, due, time.monotonic()))

    async def _deposit(self) -> tuple[str, int]:
        account = self._accounts[self._zipf.take(1)[0]]
        done = await self._service.execute(account, Deposit(1), CommandContext("bench"))
        return account, done.after.version

    async def _look(self, seen: Seen) -> None:
        """Ask for the documents of all that wait, until all are sent and shown."""
        while self._waiting or not self._all_sent:
            if asked := list(self._waiting):
                found = await self._elastic.mget("balance", list({each.account for each in asked}))
                now = time.monotonic()
                for each in asked:
                    there = found.get(each.account)
                    if there is not None and there.source["version"] >= each.version:
                        self._waiting.discard(each)
                        seen.due.append(1000 * (now - each.due))
                        seen.acknowledged.append(1000 * (now - each.acknowledged))
            await asyncio.sleep(_LOOK)


@asynccontextmanager
async def clients(settings: Settings) -> AsyncIterator[Load]:
    """A load with its accounts opened."""
    load = Load(settings)
    try:
        await load.open()
        yield load
    finally:
        await load.close()
