"""(f) What an event costs a worker in banks of more and more accounts, and how much memory."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from benchmarks.bank import Bank
from benchmarks.children import Burst, burst, working
from benchmarks.figures import Figure, Result
from benchmarks.history import Folds, History
from benchmarks.machine import peak_mib
from benchmarks.size import Size
from benchmarks.stream import connected, messages_of, publish
from pipeline.index import Elastic, Generations, Write
from pipeline.jetstream import STREAM
from pipeline.partitioning import ensure_balance_stream
from pipeline.settings import Settings

TITLE: Final = "Growth"
_CHUNK: Final = 1_000
_IN_FLIGHT: Final = 4


async def fill(settings: Settings, history: History) -> None:
    """Write the first document of every account, as a worker would have."""
    elastic = Elastic(settings.elasticsearch_url)
    generation = await Generations(elastic).ensure_live()
    accounts = iter(
        [history.accounts[i : i + _CHUNK] for i in range(0, len(history.accounts), _CHUNK)]
    )
    try:

        async def client() -> None:
            for some in accounts:
                documents = Folds().batch(history.open(some))
                writes = [Write(each["id"], each["version"], each) for each in documents]
                await elastic.bulk(generation.alias, writes)

        await asyncio.gather(*(client() for _ in range(_IN_FLIGHT)))
    finally:
        await elastic.close()


class Grown:
    """What was found of a bank of so many accounts."""

    def __init__(self, accounts: int) -> None:
        self.accounts = accounts
        self.cpu: list[float] = []
        self.document_cpu: list[float] = []
        self.rates: list[float] = []
        self.memory = 0.0

    def note(self, seen: Burst, cpu: float) -> None:
        """`cpu`: seconds that the worker used for the burst."""
        self.cpu.append(1e6 * cpu / seen.events)
        self.document_cpu.append(1e6 * cpu / seen.documents)
        self.rates.append(seen.rate)


async def grown(bank: Bank, size: Size, accounts: int) -> Grown:
    settings = await bank.fresh()
    history, found = History(accounts), Grown(accounts)
    await fill(settings, history)
    async with AsyncExitStack() as stack:
        js = await stack.enter_async_context(connected(settings))
        await ensure_balance_stream(js, settings)
        worker = await stack.enter_async_context(working(bank, settings))
        for turn in range(size.rounds + 1):
            messages = messages_of(history.next(size.grown), settings.partitions)
            before = worker.cpu
            seen = await burst(
                [worker],
                size.grown,
                lambda messages=messages: publish(js, STREAM, messages),  # type: ignore[misc]
            )
            if turn:
                found.note(seen, worker.cpu - before)
        found.memory = peak_mib(worker.child.pid)
    return found


async def measure(bank: Bank, size: Size) -> Result:
    result, costs = Result(), list[Figure]()
    for accounts in size.accounts:
        found = await grown(bank, size, accounts)
        name = f"{accounts:,} accounts"
        costs.append(result.add(f"worker's processor, {name}", "µs/event", found.cpu))
        result.add(f"worker's processor, {name}, by document", "µs/document", found.document_cpu)
        result.add(f"worker, {name}", "events/s", found.rates)
        result.add(f"worker's most memory, {name}", "MiB", [found.memory])
    most = max(costs, key=lambda each: each.median)
    least = min(costs, key=lambda each: each.median)
    result.compare("cost per event, dearest / cheapest bank", most, least, 1.3, most=True)
    result.notes.append(
        f"{size.grown} events a round, Zipf over all accounts. Each bank's rounds follow one "
        "another, for its documents have to be there first. A larger bank's batches touch more "
        "accounts, so that more documents are written for as many events."
    )
    return result
