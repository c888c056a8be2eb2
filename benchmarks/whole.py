"""(h) Commands over HTTP with the whole bank running, when it is small and when it is large."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from benchmarks.bank import Bank
from benchmarks.figures import Figure, Result
from benchmarks.history import deposit
from benchmarks.latency import settled
from benchmarks.roles import WORKER, Roles, bank_of
from benchmarks.size import Size
from pipeline.embedded.traffic import Traffic, session
from pipeline.embedded.up import accounts_url
from pipeline.eventstore import EventStore

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

    def __init__(self, roles: Roles, traffic: Traffic) -> None:
        self._roles, self._traffic = roles, traffic

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

        async def pay(account: str) -> None:
            body = {"id": account, "money": 1}
            async with self._traffic.http.post("/deposit", json=body) as answer:
                answer.raise_for_status()

        await asyncio.gather(*map(pay, accounts))

    def _used(self) -> float:
        return sum(self._roles.used().values())


async def grow(store: EventStore, accounts: list[str], events: int) -> None:
    """Have so many events in the store, each as a command's, with a key of its own."""
    each, more = divmod(events - await store.count(), len(accounts))
    if not each + more:
        return

    async def deposits(number: int, account: str) -> None:
        version = await store.head(account)
        row = [deposit(account, version + 1 + n) for n in range(each + (number < more))]
        await store.append_row(row)

    for at in range(0, len(accounts), 50):
        await asyncio.gather(*(deposits(at + n, a) for n, a in enumerate(accounts[at : at + 50])))


async def measure(bank: Bank, size: Size) -> Result:
    result, rates, costs = Result(), list[Figure](), list[Figure]()
    async with (
        bank_of(bank) as (settings, roles),
        session(accounts_url(settings)) as http,
    ):
        store = EventStore(settings.mongodb, settings.mongodb_database)
        await roles.start()
        traffic = Traffic(http, _SEED)
        small, large = size.events
        await traffic.open_accounts(small)
        whole, growing = Whole(roles, traffic), traffic.accounts[: int(_OLDER * small)]
        for events in (small, large):
            await grow(store, growing, events)
            await whole.remind(growing)
            await settled(roles.processes[WORKER])
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
