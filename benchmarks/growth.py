"""(f) What an event costs a worker in banks of more and more accounts, and how much memory."""

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from typing import Final

from benchmarks.bank import Bank
from benchmarks.children import Burst, Process, burst, working
from benchmarks.figures import Figure, Result
from benchmarks.history import Folds, History
from benchmarks.machine import peak_mib, slowness
from benchmarks.size import Size
from benchmarks.stream import connected, messages_of, publish_held
from pipeline.banking.balance import BALANCE
from pipeline.coordination.partitioning import ensure_log
from pipeline.model.names import BANK
from pipeline.search import Elastic, Generations, Write
from pipeline.support.settings import Settings

TITLE: Final = "Growth"
_CHUNK: Final = 1_000
_IN_FLIGHT: Final = 4
_REST_SECONDS: Final = 3.0
_EMBEDDED: Final = 100_000
"""Accounts of the largest bank on the embedded Elasticsearch: it takes minutes to fill one of a
million, and then leaves who asks without an answer for more than ten seconds."""


async def fill(settings: Settings, history: History) -> None:
    """Write the first document of every account, as a worker would have.

    What is written afterwards is not refreshed: to a stand-in that costs as much as the index is
    large, each second, and nobody searches.
    """
    elastic = Elastic(settings.elasticsearch_url)
    generation = await Generations(elastic, BALANCE).ensure_live()
    accounts = iter(
        [history.accounts[i : i + _CHUNK] for i in range(0, len(history.accounts), _CHUNK)]
    )
    try:

        async def client() -> None:
            for some in accounts:
                documents = Folds().batch(history.open(some))
                writes = [Write(each["id"], each["version"], each) for each in documents]
                await elastic.bulk(generation.alias, writes)

        await elastic.client.indices.put_settings(
            index=generation.alias, settings={"index": {"refresh_interval": "-1"}}
        )
        await asyncio.gather(*(client() for _ in range(_IN_FLIGHT)))
    finally:
        await elastic.close()


class Grown:
    """What was found of a bank of so many accounts, round by round."""

    def __init__(self, accounts: int) -> None:
        self.accounts = accounts
        self.bursts: list[Burst] = []
        self.cpu: list[float] = []
        """Seconds that the worker used for each burst."""
        self.slowness: list[float] = []
        self.memory = 0.0

    def costs(self, usual: float) -> tuple[list[float], list[float]]:
        """Microseconds for an event and for a document, had the machine always been that slow."""
        rounds = zip(self.bursts, self.cpu, self.slowness, strict=True)
        told = [(seen, 1e6 * cpu * usual / slow) for seen, cpu, slow in rounds]
        return (
            [cpu / seen.events for seen, cpu in told],
            [cpu / seen.documents for seen, cpu in told],
        )


async def grown(bank: Bank, size: Size, accounts: int) -> Grown:
    settings = await bank.fresh()
    history, found = History(accounts), Grown(accounts)
    await fill(settings, history)
    async with AsyncExitStack() as stack:
        js = await stack.enter_async_context(connected(settings))
        await ensure_log(js, settings)
        worker = await stack.enter_async_context(working(bank, settings))
        resting = await _resting(worker)
        for turn in range(size.rounds + 1):
            messages = messages_of(history.next(size.grown), settings.partitions)
            slow, before = slowness(), worker.cpu
            seen = await burst(
                [worker],
                size.grown,
                lambda messages=messages: publish_held(js, BANK.log, messages),  # type: ignore[misc]
            )
            if turn:  # what a worker uses anyway is no event's, and a slow server's bursts last
                found.cpu.append(worker.cpu - before - resting * seen.seconds)
                found.bursts.append(seen)
                found.slowness.append((slow + slowness()) / 2)
        found.memory = peak_mib(worker.child.pid)
    return found


async def _resting(worker: Process) -> float:
    """Processor seconds in each second of a worker that waits."""
    before, began = worker.cpu, time.monotonic()
    await asyncio.sleep(_REST_SECONDS)
    return (worker.cpu - before) / (time.monotonic() - began)


def _is_real(bank: Bank) -> bool:
    return "elasticsearch" not in bank.embedded


async def measure(bank: Bank, size: Size) -> Result:
    result, costs = Result(), list[Figure]()
    banks = [each for each in size.accounts if each <= _EMBEDDED or _is_real(bank)]
    if len(banks) < len(size.accounts):
        result.notes.append(
            f"Banks of more than {_EMBEDDED:,} accounts are left to a real Elasticsearch."
        )
    every = [await grown(bank, size, accounts) for accounts in banks]
    usual = statistics.median(slow for found in every for slow in found.slowness)
    for found in every:
        name, (event, document) = f"{found.accounts:,} accounts", found.costs(usual)
        costs.append(result.add(f"worker's processor, {name}", "µs/event", event))
        result.add(f"worker's processor, {name}, by document", "µs/document", document)
        result.add(f"worker, {name}", "events/s", [seen.rate for seen in found.bursts])
        result.add(f"worker's most memory, {name}", "MiB", [found.memory])
    slow = [each / usual for found in every for each in found.slowness]
    most = max(costs, key=lambda each: each.median)
    least = min(costs, key=lambda each: each.median)
    result.compare("cost per event, dearest / cheapest bank", most, least, 1.3, most=True)
    result.notes.append(
        f"{size.grown} events a round, Zipf over all accounts. Each bank's rounds follow one "
        "another, for its documents have to be there first. A larger bank's batches touch more "
        "accounts, so that more documents are written for as many events. What a worker uses "
        "while it waits, measured before its rounds, is no event's and left out. Costs are those "
        "of the machine at its usual speed: a fixed piece of work is timed before and after each "
        f"round, and took from {min(slow):.2f} to {max(slow):.2f} times as long as it usually did."
    )
    return result
