"""(h) Commands over HTTP with the whole bank running, when it is small and when it is large."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from ulid import ULID

from benchmarks.bank import Bank
from benchmarks.children import Process, started, working
from benchmarks.figures import Figure, Result
from benchmarks.latency import FORWARDER, settled
from benchmarks.size import Size
from pipeline.banking.events import DEPOSITED
from pipeline.embedded.startup_checks import free_ports
from pipeline.embedded.traffic import Traffic, session
from pipeline.embedded.up import SERVICES, accounts_url
from pipeline.eventstore import EventStore
from pipeline.model.events import Event, new_event
from pipeline.support.settings import Settings

TITLE: Final = "The whole bank"
_SEED: Final = 1
_OLDER: Final = 0.9
"""The share of the accounts that is never shut, and so can grow."""


@dataclass(slots=True)
class Rounds:
    """What was found of a bank of one size, round by round."""

    rates: list[float] = field(default_factory=list)
    """Commands a second."""
    costs: list[float] = field(default_factory=list)
    """Microseconds of processor for each, of roles and embedded servers together."""


class Whole:
    """A bank with all its roles, and who sends commands to it."""

    def __init__(self, bank: Bank, roles: list[Process], traffic: Traffic) -> None:
        self._bank, self._roles, self._traffic = bank, roles, traffic

    async def rounds(self, number: int, commands: int) -> Rounds:
        """The first one does not count."""
        found = Rounds()
        for turn in range(number + 1):
            self._traffic.seed += 1  # other commands each time
            before, began = self._used(), time.perf_counter()
            await self._traffic.send_commands(commands)
            if turn:
                found.rates.append(commands / (time.perf_counter() - began))
                found.costs.append(1e6 * (self._used() - before) / commands)
        if wrong := self._traffic.surprises:
            raise RuntimeError(f"not answered as it must be: {wrong[0]}")
        return found

    async def remind(self, accounts: list[str]) -> None:
        """A command to each account: what the service remembers of them is their present state."""

        async def deposit(account: str) -> None:
            body = {"id": account, "money": 1}
            async with self._traffic.http.post("/deposit", json=body) as answer:
                answer.raise_for_status()

        await asyncio.gather(*map(deposit, accounts))

    def _used(self) -> float:
        return sum(self._bank.used().values()) + sum(role.cpu for role in self._roles)


async def grow(store: EventStore, accounts: list[str], events: int) -> None:
    """Have so many events in the store, each as a command's, with a key of its own."""
    each, more = divmod(events - await store.count(), len(accounts))
    if not each + more:
        return

    async def deposits(number: int, account: str) -> None:
        version = await store.head(account)
        row = [_deposit(account, version + 1 + n) for n in range(each + (number < more))]
        await store.append_row(row)

    for at in range(0, len(accounts), 50):
        await asyncio.gather(*(deposits(at + n, a) for n, a in enumerate(accounts[at : at + 50])))


def _deposit(account: str, version: int) -> Event:
    event = new_event(account, version, DEPOSITED, {"money": 1}, correlation_id="bench")
    event["idempotency_key"], event["request"] = str(ULID()), "bench"
    return event


@asynccontextmanager
async def running(bank: Bank, settings: Settings) -> AsyncIterator[list[Process]]:
    """All roles, each a process that is ready; the worker is the first."""
    async with AsyncExitStack() as stack:
        roles = [
            await stack.enter_async_context(working(bank, settings)),
            await stack.enter_async_context(started(bank, settings, *FORWARDER)),
        ]
        for role in SERVICES:
            placed = settings.model_copy(update={"metrics_port": getattr(settings, f"{role}_port")})
            roles.append(Process(bank, placed, f"api.{role}"))
            stack.push_async_callback(roles[-1].stop)
        for each in roles:
            await each.ready()
        yield roles


async def measure(bank: Bank, size: Size) -> Result:
    ports = free_ports("127.0.0.1")
    placed = {"host": "127.0.0.1", "accounts_port": next(ports), "balances_port": next(ports)}
    settings = await bank.fresh(projections="balance statement", **placed)
    store, result = EventStore(settings.mongodb, settings.mongodb_database), Result()
    rates, costs = list[Figure](), list[Figure]()
    async with running(bank, settings) as roles, session(accounts_url(settings)) as http:
        traffic = Traffic(http, _SEED)
        small, large = size.events
        await traffic.open_accounts(small)
        whole, growing = Whole(bank, roles, traffic), traffic.accounts[: int(_OLDER * small)]
        for events in (small, large):
            await grow(store, growing, events)
            await whole.remind(growing)
            await settled(roles[0])
            found = await whole.rounds(size.rounds, size.sent)
            rates.append(result.add(f"HTTP, {events:,} events", "commands/s", found.rates))
            costs.append(
                result.add(f"the bank's processor, {events:,} events", "µs/command", found.costs)
            )
    await store.close()
    result.compare("HTTP, large bank / small bank", rates[1], rates[0], 0.8)
    result.compare("processor, large bank / small bank", costs[1], costs[0])
    result.notes.append(
        f"{size.sent} commands a round, 64 in flight, mixed as those of `bank demo`, each with "
        f"a key, on {small:,} accounts; the client shares the machine. The rounds of each size "
        "follow one another, for the large bank is the small one, grown; so a bank has somewhat "
        "more events in its last round than in its first."
    )
    return result
