"""The roles of one bank, each a process, and clients of its account service."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from benchmarks.bank import Bank
from benchmarks.checkout import HERE, Checkout
from benchmarks.children import BURST_SECONDS, Process
from benchmarks.history import SEED
from benchmarks.latency import settled
from pipeline.banking.balance import BALANCE
from pipeline.banking.statement import STATEMENT
from pipeline.embedded.startup_checks import free_ports
from pipeline.embedded.up import accounts_url
from pipeline.model.projection import Projection
from pipeline.search import Elastic
from pipeline.support.settings import Settings

WORKER, FORWARDER, ACCOUNTS, BALANCES = "worker", "forwarder", "accounts", "balances"
READ_SIDE: Final = (WORKER, FORWARDER, BALANCES)
"""All that the account service needs nothing of."""
PROJECTIONS: Final = (BALANCE, STATEMENT)
IN_FLIGHT: Final = 64
_TOGETHER: Final = 50
_COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    WORKER: ("benchmarks.worker",),
    FORWARDER: ("pipeline.cli.main", "forwarder"),
    ACCOUNTS: ("api.accounts",),
    BALANCES: ("api.balances",),
}


class Roles:
    """The processes of a bank, started and stopped by name."""

    def __init__(self, bank: Bank, settings: Settings, checkout: Checkout = HERE) -> None:
        self._bank, self._settings, self._checkout = bank, settings, checkout
        self.processes: dict[str, Process] = {}

    async def start(self, *names: str) -> None:
        """Start these, or all of them; returns when they are ready."""
        started = [self._start(name) for name in names or _COMMANDS]
        for each in started:
            await each.ready()

    async def stop(self, *names: str) -> None:
        """Stop these, or all that run."""
        stopped = [self.processes.pop(name) for name in names or list(self.processes)]
        await asyncio.gather(*(each.stop() for each in stopped))

    async def shown(self, versions: Mapping[str, int]) -> None:
        """Wait until all projections have these versions of the accounts and the worker has nothing
        to do."""
        elastic = Elastic(self._settings.elasticsearch_url)
        try:
            async with asyncio.timeout(BURST_SECONDS):
                for projection in PROJECTIONS:
                    while not await _shows(elastic, projection, versions):
                        self.processes[WORKER].alive()
                        await asyncio.sleep(0.1)
        finally:
            await elastic.close()
        await settled(self.processes[WORKER])

    @property
    def applied(self) -> int:
        """Events that the worker has applied since its start, in all projections."""
        return self.processes[WORKER].events // len(PROJECTIONS)

    async def have_applied(self, events: int) -> float:
        """Wait until the worker has applied so many; when it had, by the monotonic clock."""
        worker = self.processes[WORKER]
        async with asyncio.timeout(BURST_SECONDS):
            while self.applied < events:
                worker.alive()
                await asyncio.sleep(0.01)
        return worker.lines[-1][1]

    def used(self) -> dict[str, float]:
        """Processor seconds so far, by role that runs and by embedded server."""
        return {name: each.cpu for name, each in self.processes.items()} | self._bank.used()

    def _start(self, name: str) -> Process:
        ports = free_ports(self._settings.host)
        own = {ACCOUNTS: self._settings.accounts_port, BALANCES: self._settings.balances_port}
        placed = self._settings.model_copy(update={"metrics_port": own.get(name) or next(ports)})
        started = Process(self._bank, placed, *_COMMANDS[name], checkout=self._checkout)
        self.processes[name] = started
        return started


async def _shows(elastic: Elastic, projection: Projection, versions: Mapping[str, int]) -> bool:
    ids = {projection.of(account, version): version for account, version in versions.items()}
    found = await elastic.mget(projection.name, list(ids))
    return all(
        each in found and found[each].source["version"] >= version for each, version in ids.items()
    )


def costs(before: dict[str, float], after: dict[str, float], count: float) -> dict[str, float]:
    """Microseconds of processor time for one of `count`, by who used it."""
    return {name: 1e6 * (after[name] - before[name]) / count for name in after if name in before}


@asynccontextmanager
async def bank_of(bank: Bank, checkout: Checkout = HERE) -> AsyncIterator[tuple[Settings, Roles]]:
    """A fresh bank with the settings that `bank up` has, and none of its roles yet; those that are
    started are stopped at the end."""
    ports = free_ports("127.0.0.1")
    placed = {"host": "127.0.0.1", "accounts_port": next(ports), "balances_port": next(ports)}
    usual = {"projections": "balance statement", "lease_seconds": 10}
    settings = await bank.fresh(**placed, **usual)
    roles = Roles(bank, settings, checkout)
    try:
        yield settings, roles
    finally:
        await roles.stop()


@dataclass(slots=True)
class Clients:
    """Clients of an account service that pay into accounts at random, the same in each run."""

    http: aiohttp.ClientSession
    accounts: list[str] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    """The last version of each account that a client was told."""
    seconds: list[float] = field(default_factory=list)
    """What each deposit took."""
    _chance: random.Random = field(default_factory=lambda: random.Random(SEED))

    async def open(self, count: int) -> None:
        for at in range(0, count, _TOGETHER):
            number = min(_TOGETHER, count - at)
            self.accounts += await asyncio.gather(*(self._create() for _ in range(number)))

    async def deposit(self) -> None:
        body = {"id": self._chance.choice(self.accounts), "money": 1}
        began = time.perf_counter()
        await self._post("/deposit", body)
        self.seconds.append(time.perf_counter() - began)

    async def closed(self, seconds: float) -> float:
        """Commands a second, when `IN_FLIGHT` clients each wait for an answer before they go on."""
        began, known = time.perf_counter(), len(self.seconds)

        async def client() -> None:
            while time.perf_counter() < began + seconds:
                await self.deposit()

        await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
        return (len(self.seconds) - known) / (time.perf_counter() - began)

    async def evenly(self, rate: float, seconds: float) -> float:
        """Send commands at times that are fixed beforehand; how many a second it came to."""
        began, count = time.perf_counter(), int(rate * seconds)
        async with asyncio.TaskGroup() as sent:
            for number in range(count):
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                sent.create_task(self.deposit())
        return count / (time.perf_counter() - began)

    async def _create(self) -> str:
        owner = f"Owner {self._chance.random():.9f}"
        return await self._post("/create", {"owner": owner, "money": 100})

    async def _post(self, path: str, body: dict[str, object]) -> str:
        async with self.http.post(path, json=body) as answer:
            answer.raise_for_status()
            told = await answer.json()
        account = str(told["id"])
        self.versions[account] = max(self.versions.get(account, 0), told["version"])
        return account


@asynccontextmanager
async def clients(address: str) -> AsyncIterator[Clients]:
    """Clients of the service there, as many connections as they need."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(address, connector=connector) as http:
        yield Clients(http)


@asynccontextmanager
async def serving(
    bank: Bank, checkout: Checkout, accounts: int
) -> AsyncIterator[tuple[Settings, Roles, Clients]]:
    """A fresh bank with all roles and so many accounts, all of which readers see."""
    async with (
        bank_of(bank, checkout) as (settings, roles),
        clients(accounts_url(settings)) as load,
    ):
        await roles.start()
        await load.open(accounts)
        await roles.shown(load.versions)
        yield settings, roles, load
