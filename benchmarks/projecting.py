"""(c) A worker on the bridge, beside bare bulks of the same documents and message by message."""

from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.util import find_spec
from typing import Final

from benchmarks import rivals
from benchmarks.bank import Bank
from benchmarks.bulks import Bulks, documents_of
from benchmarks.children import Process, burst, started, working
from benchmarks.figures import Result
from benchmarks.history import Folds, History
from benchmarks.rounds import Measure, interleaved
from benchmarks.size import Size
from benchmarks.stream import connected, messages_of, publish
from pipeline.jetstream import STREAM, JetStream, ensure_partitioned
from pipeline.partitioning import ensure_balance_stream
from pipeline.projection import Document
from pipeline.settings import Settings

TITLE: Final = "Projection"
ACCOUNTS: Final = 10_000
WORKER: Final = "worker"
WORKER_DOCUMENTS: Final = "worker, documents"
BULK: Final = "bare bulk, documents"
BOTH: Final = "worker with balance and statement"
FASTSTREAM: Final = "FastStream, each message indexed"
PULL: Final = "FastStream, 100 messages at once, each indexed"
FAUST: Final = "Faust on the bridge, each message indexed"
RIVALS: Final = {FASTSTREAM: rivals.FASTSTREAM, PULL: rivals.PULL, FAUST: rivals.FAUST}
GOAL: Final = 10.0
"""Times a FastStream subscriber."""


class Projecting:
    """Bursts for a worker that waits, and the bulks of the same documents."""

    def __init__(
        self, settings: Settings, js: JetStream, worker: Process, bulks: Bulks, count: int
    ) -> None:
        self._settings, self._js, self._bulks, self._count = settings, js, bulks, count
        self._worker, self._folds, self._history = worker, Folds(), History(ACCOUNTS)
        self._documents: list[Document] = []
        self.written: list[float] = []
        """Documents a second of each burst."""

    async def choose(self) -> dict[int, float]:
        """Find how many bulks in flight are best for a burst's documents."""
        await self.worker()
        rates = await self._bulks.choose(self._documents)
        self.written.clear()
        return rates

    async def worker(self) -> float:
        """Events a second of a burst, published and applied."""
        events, partitions = self._history.next(self._count), self._settings.partitions
        messages = messages_of(events, partitions)
        seen = await burst([self._worker], self._count, lambda: publish(self._js, STREAM, messages))
        batch = max(1, round(seen.events / seen.batches))
        self._documents = documents_of(events, partitions, batch, self._folds)
        self.written.append(seen.documents / seen.seconds)
        return seen.rate

    async def bulk(self) -> float:
        """The bulks of the last burst, in documents a second."""
        return await self._bulks.write(self._documents)


async def measure(bank: Bank, size: Size) -> Result:
    result = Result()
    await _beside_bulks(bank, size, result)
    await _with_both(bank, size, result)
    return result


async def _beside_bulks(bank: Bank, size: Size, result: Result) -> None:
    settings = await bank.fresh()
    async with AsyncExitStack() as stack:
        js = await stack.enter_async_context(connected(settings))
        await ensure_balance_stream(js, settings)
        worker = await stack.enter_async_context(working(bank, settings))
        bulks = Bulks(settings.elasticsearch_url)
        stack.push_async_callback(bulks.close)
        work = Projecting(settings, js, worker, bulks, size.projected)
        chosen = await work.choose()
        measures: dict[str, Measure] = {WORKER: work.worker, BULK: work.bulk}
        for name, which in RIVALS.items():
            if which.startswith(rivals.FASTSTREAM) and find_spec("faststream") is None:
                result.notes.append(f"{name}: not installed (extra `bench`), left out.")
                continue
            measures[name] = await _rival(stack, bank, settings, js, which, size.rival)
        rates = await interleaved(measures, size.rounds)
    written = result.add(WORKER_DOCUMENTS, "documents/s", work.written[1:])
    by_name = {
        name: result.add(name, "documents/s" if name == BULK else "events/s", each)
        for name, each in rates.items()
    }
    result.compare("projection / bare bulk", written, by_name[BULK], 0.8)
    for name in [each for each in by_name if each in RIVALS]:
        goal = GOAL if name == FASTSTREAM else None
        result.compare(f"projection / {name}", by_name[WORKER], by_name[name], goal)
    tried = ", ".join(f"{number}: {rate:,.0f}" for number, rate in chosen.items())
    result.notes.append(
        f"{size.projected} events a round of {ACCOUNTS} Zipf accounts; the bare bulks are of 500 "
        f"documents, {bulks.in_flight} in flight (documents/s by number in flight: {tried})."
    )


async def _rival(
    stack: AsyncExitStack, bank: Bank, settings: Settings, js: JetStream, which: str, count: int
) -> Measure:
    """A process that takes its messages from a stream of its own, and its bursts."""
    await ensure_partitioned(js, which, settings.partitions)
    process = await stack.enter_async_context(started(bank, settings, "benchmarks.rivals", which))
    history = History(ACCOUNTS)

    async def once() -> float:
        messages = [
            replace(each, subject=each.subject.replace(STREAM, which))
            for each in messages_of(history.next(count), settings.partitions)
        ]
        return (await burst([process], count, lambda: publish(js, which, messages))).rate

    return once


async def _with_both(bank: Bank, size: Size, result: Result) -> None:
    """As the bank runs by default, with the statement beside the balance."""
    settings = await bank.fresh(projections="balance statement")
    history, rates, documents = History(ACCOUNTS), [], []
    async with connected(settings) as js:
        await ensure_balance_stream(js, settings)
        async with working(bank, settings) as worker:
            for turn in range(size.rounds + 1):
                messages = messages_of(history.next(size.projected), settings.partitions)
                seen = await burst(
                    [worker],
                    2 * size.projected,
                    lambda messages=messages: publish(js, STREAM, messages),  # type: ignore[misc]
                )
                if turn:
                    rates.append(size.projected / seen.seconds)
                    documents.append(seen.documents / seen.seconds)
    result.add(BOTH, "events/s", rates)
    result.add(f"{BOTH}, documents", "documents/s", documents)
    result.notes.append(
        "The figures of balance and statement together are measured after the others."
    )
