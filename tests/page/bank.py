"""A whole bank for the page: servers that may be killed, two workers, both services."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiohttp
import pymongo
from ulid import ULID

from pipeline.embedded.servers import EmbeddedServers
from pipeline.embedded.up import accounts_url, balances_url
from pipeline.eventstore import EventStore
from pipeline.model.events import Event
from pipeline.support.settings import Settings
from tests.agents.rebuild.bank import fill
from tests.bank import append, history
from tests.fleet import Fleet
from tests.harness import Role, eventually

PARTITIONS: Final = 4


class Bank:
    """All roles as processes; `balances` is the service that serves the page."""

    def __init__(self, embedded: EmbeddedServers) -> None:
        self.embedded, self.settings = embedded, embedded.settings
        self.address = balances_url(self.settings)
        self.fleet = Fleet(self.settings, self.start)
        self.store = EventStore(self.settings.mongodb_url, self.settings.mongodb_database)
        self.http = aiohttp.ClientSession(accounts_url(self.settings))
        self._roles, self._crowd, self._rate = list[Role](), list[str](), 0.0

    async def start(self, *command: str, **environ: str) -> Role:
        """A role, which ends with the bank."""
        role = Role(self.settings, *command, **environ)
        self._roles.append(role)
        await role.start()
        return role

    async def open(self) -> None:
        await self.start("bank", "forwarder")
        self.accounts = await self.start("bank", "accounts")
        self.balances = await self.start("bank", "balances")
        await self.fleet.join(2)
        await eventually(lambda: self.command("/create", owner="Ada", money=1), seconds=90)
        half = self.settings.partitions // 2
        await self.fleet.has(half, half, seconds=90)
        await eventually(lambda: is_ready(self.address), seconds=90)

    async def close(self) -> None:
        await asyncio.gather(*(each.close() for each in self._roles))
        await self.fleet.close()
        await self.store.close()
        await self.http.close()

    async def command(self, path: str, **body: Any) -> dict[str, Any]:
        """Execute a command; its answer."""
        async with self.http.post(path, json=body) as answer:
            assert answer.status < 300, await answer.text()
            told: dict[str, Any] = await answer.json()
            return told

    async def account(self, owner: str, *amounts: int) -> str:
        """Open an account, with these paid in after it; it shows as soon as this returns."""
        opened = await self.command("/create", owner=owner, money=1000)
        for amount in amounts:
            opened = await self.command("/deposit", id=opened["id"], money=amount)
        await eventually(lambda: self.shows(opened["id"], opened["version"]))
        await eventually(lambda: self.lists_all([opened["id"]]))
        return str(opened["id"])

    async def shows(self, account_id: str, version: int) -> bool:
        async with self.http.get(f"{self.address}/{account_id}") as answer:
            return answer.status == 200 and (await answer.json())["version"] >= version

    async def lists(self, order: str, account_id: str) -> bool:
        """Whether the account is the first one in that order; lists follow within a second."""
        async with self.http.get(f"{self.address}/?sort={order}&limit=1") as answer:
            return bool((await answer.json())["data"][0]["id"] == account_id)

    async def lists_all(self, account_ids: Collection[str]) -> bool:
        """Whether a page of a hundred has them all."""
        async with self.http.get(f"{self.address}/?sort=-id&limit=100") as answer:
            listed = {each["id"] for each in (await answer.json())["data"]}
        return listed.issuperset(account_ids)

    async def replay_at(self, rate: float) -> None:
        """Have workers that replay so many events a second in a rebuild; 0: all they can."""
        if rate == self._rate:
            return
        self._rate = rate
        await asyncio.gather(*(self.fleet.leave(name) for name in list(self.fleet.workers)))
        self.fleet.environ = {"BANK_REBUILD_RATE": str(rate)}
        await self.fleet.join(2)
        half = self.settings.partitions // 2
        await self.fleet.has(half, half, seconds=90)

    async def crowd(self) -> None:
        """Many accounts, the same for every test that wants them."""
        if not self._crowd:
            self._crowd = await fill(self.store, accounts=60, events=4)
            await eventually(lambda: self.shows(self._crowd[-1], 4), seconds=60)
            await eventually(lambda: self.lists_all(self._crowd), seconds=60)

    @asynccontextmanager
    async def poisoned(self, kind: str = "MoneyPrinted") -> AsyncIterator[tuple[str, Event]]:
        """An account that is parked at its version 3 of 5, and the event as it should be.

        When the block ends the account is on no list: other tests count those that are.
        """
        events = history(str(ULID()), 5)
        wrong: Any = {**events[2], "kind": kind}
        await append(self.store, [[*events[:2], wrong, *events[3:]]])
        account_id = events[2]["account_id"]
        await eventually(lambda: self._parked_in(account_id, 200))
        try:
            yield account_id, events[2]
        finally:
            self.mend(events[2])
            await eventually(lambda: self._parked_in(account_id, 404, "POST", "/retry"), every=0.5)

    async def _parked_in(
        self, account_id: str, status: int, method: str = "GET", act: str = ""
    ) -> bool:
        """Whether each projection's list answers so of the account."""
        for projection in self.settings.projections.split():
            url = f"{self.address}/parked/{account_id}{act}?projection={projection}"
            async with self.http.request(method, url) as answer:
                if answer.status != status:
                    return False
        return True

    def mend(self, event: Event) -> None:
        """Put the event in the place of what is stored under its id."""
        url, database = self.settings.mongodb_url, self.settings.mongodb_database
        with pymongo.MongoClient[Any](url, retryWrites=False) as client:
            done = client[database]["events"].replace_one({"_id": event["_id"]}, event)
        assert done.matched_count == 1

    @asynccontextmanager
    async def traffic(self) -> AsyncIterator[None]:
        """Some commands a second while the block runs, whatever they are answered."""

        async def send() -> None:
            first = await self.account("Busy")
            for number in itertools.count():
                with suppress(AssertionError, aiohttp.ClientError):
                    match number % 8:
                        case 0:
                            await self.command("/create", owner=f"Busy {number}", money=5)
                        case 1 | 4 | 6:
                            await self.command("/withdraw", id=first, money=20)
                        case _:
                            await self.command("/deposit", id=first, money=20)
                await asyncio.sleep(0.1)

        task = asyncio.create_task(send())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def is_ready(address: str) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{address}/readyz") as answer:
        return answer.status == 200


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Bank]:
    """A bank on embedded servers of its own."""
    embedded = EmbeddedServers(settings)
    await embedded.start()
    bank = Bank(embedded)
    try:
        await bank.open()
        yield bank
    finally:
        await bank.close()
        await embedded.stop()
