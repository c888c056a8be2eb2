"""(c) A worker on the bridge, beside bare bulks of the same documents and message by message."""

from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.util import find_spec
from typing import Final

from benchmarks import rivals
from benchmarks.bank import Bank
from benchmarks.beside_bulks import ACCOUNTS, Projecting
from benchmarks.bulks import Bulks
from benchmarks.children import burst, started, working
from benchmarks.figures import Result
from benchmarks.history import History
from benchmarks.machine import machine
from benchmarks.rounds import Measure, interleaved
from benchmarks.size import Size
from benchmarks.stream import connected, messages_of, publish, publish_held
from pipeline.coordination.partitioning import ensure_log
from pipeline.messaging import JetStream, ensure_partitioned
from pipeline.model.names import BANK
from pipeline.support.settings import Settings

TITLE: Final = "Projection"
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


async def measure(bank: Bank, size: Size) -> Result:
    result = Result()
    await _beside_bulks(bank, size, result)
    await _with_both(bank, size, result)
    return result


async def _beside_bulks(bank: Bank, size: Size, result: Result) -> None:
    settings = await bank.fresh()
    async with AsyncExitStack() as stack:
        js = await stack.enter_async_context(connected(settings))
        await ensure_log(js, settings)
        worker = await stack.enter_async_context(working(bank, settings))
        bulks = Bulks(settings.elasticsearch_url)
        stack.push_async_callback(bulks.close)
        await bulks.make()
        work = Projecting(bank, settings, js, worker, bulks)
        chosen = await work.choose(size.projected)
        measures: dict[str, Measure] = {WORKER: work.worker, BULK: work.bulk}
        for name, which in RIVALS.items():
            if which.startswith(rivals.FASTSTREAM) and find_spec("faststream") is None:
                result.notes.append(f"{name}: not installed (extra `bench`), left out.")
                continue
            measures[name] = await _rival(stack, bank, settings, js, which, size.rival)
        rates = await interleaved(measures, size.rounds)
        one, costs, ceiling = work.written[1:], work.costs, work.ceiling(machine()["cores"])
        several = await _several(stack, bank, settings, work, size.rounds)
    written = result.add(WORKER_DOCUMENTS, "documents/s", one)
    by_name = {
        name: result.add(name, "documents/s" if name == BULK else "events/s", each)
        for name, each in rates.items()
    }
    result.compare("projection / bare bulk", written, by_name[BULK], 0.8)
    for name in [each for each in by_name if each in RIVALS]:
        goal = GOAL if name == FASTSTREAM else None
        result.compare(f"projection / {name}", by_name[WORKER], by_name[name], goal)
    if several:
        name, many, beside = several
        of_many = result.add(f"{name}, documents", "documents/s", many)
        bare = result.add(f"{BULK}, beside {name}", "documents/s", beside)
        result.compare(f"projection by {name} / bare bulk", of_many, bare, 0.3)
    for name, each in costs.items():
        result.add(f"processor of {name}", "µs/document", each[1:])
    if ceiling:
        result.notes.append(ceiling)
    tried = ", ".join(f"{number}: {rate:,.0f}" for number, rate in chosen.items())
    result.notes.append(
        f"{size.projected} events a round of {ACCOUNTS} Zipf accounts, all in the stream before "
        "the first is read; the bare bulks are of 500 documents, into an index that holds what the "
        f"worker's holds, {bulks.in_flight} in flight (documents/s by number in flight: {tried})."
    )


async def _several(
    stack: AsyncExitStack, bank: Bank, settings: Settings, work: Projecting, rounds: int
) -> tuple[str, list[float], list[float]] | None:
    """The same with a worker for each core, as `bank worker --processes` has it: what they are
    called, their documents a second, and those of the bulks. None on a single core."""
    most = min(machine()["cores"], settings.partitions)
    count = next(each for each in range(most, 0, -1) if settings.partitions % each == 0)
    if count == 1:
        return None
    for _ in range(count - 1):
        more = started(bank, settings, "benchmarks.worker")
        work.workers.append(await stack.enter_async_context(more))
    for each in work.workers:
        await each.ready(held=settings.partitions // count)
    work.forget()
    rates = await interleaved({WORKER: work.worker, BULK: work.bulk}, rounds)
    return f"{count} workers", work.written[1:], rates[BULK]


async def _rival(
    stack: AsyncExitStack, bank: Bank, settings: Settings, js: JetStream, which: str, count: int
) -> Measure:
    """A process that takes its messages from a stream of its own, and its bursts."""
    await ensure_partitioned(js, which, settings.partitions)
    process = await stack.enter_async_context(started(bank, settings, "benchmarks.rivals", which))
    history = History(ACCOUNTS)

    async def once() -> float:
        messages = [
            replace(each, subject=each.subject.replace(BANK.log, which))
            for each in messages_of(history.next(count), settings.partitions)
        ]
        return (await burst([process], count, lambda: publish(js, which, messages))).rate

    return once


async def _with_both(bank: Bank, size: Size, result: Result) -> None:
    """As the bank runs by default, with the statement beside the balance."""
    settings = await bank.fresh(projections="balance statement")
    history, rates, documents = History(ACCOUNTS), [], []
    async with connected(settings) as js:
        await ensure_log(js, settings)
        async with working(bank, settings) as worker:
            for turn in range(size.rounds + 1):
                messages = messages_of(history.next(size.projected), settings.partitions)
                seen = await burst(
                    [worker],
                    2 * size.projected,
                    lambda messages=messages: publish_held(js, BANK.log, messages),  # type: ignore[misc]
                )
                if turn:
                    rates.append(size.projected / seen.seconds)
                    documents.append(seen.documents / seen.seconds)
    result.add(BOTH, "events/s", rates)
    result.add(f"{BOTH}, documents", "documents/s", documents)
    result.notes.append(
        "The figures of balance and statement together are measured after the others."
    )
