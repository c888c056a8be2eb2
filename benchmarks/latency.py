"""(e) From a command to its document, at 25, 50 and 75 % of the highest load."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from benchmarks.bank import Bank
from benchmarks.children import Process, started, working
from benchmarks.figures import Ratio, Result, Spread
from benchmarks.load import Load, Seen, clients
from benchmarks.size import Size

TITLE: Final = "Append to visible"
SHARES: Final = (0.25, 0.5, 0.75)
FORWARDER: Final = ("pipeline.cli.main", "forwarder")
_PATIENCE: Final = 120.0
_QUIET: Final = 0.5
"""Seconds without a batch after which everything is taken to be shown."""


async def settled(worker: Process) -> None:
    """Wait until the worker has had nothing to do for a while."""
    known = -1
    async with asyncio.timeout(_PATIENCE):
        while known != (known := worker.events):
            worker.alive()
            await asyncio.sleep(_QUIET)


async def highest(load: Load, worker: Process, seconds: float) -> float:
    """Events a second that come out at the end when 64 clients do what they can."""
    await settled(worker)
    before = worker.events
    began = await load.closed(seconds)
    await settled(worker)
    return (worker.events - before) / (worker.lines[-1][1] - began)


async def measure(bank: Bank, size: Size) -> Result:
    settings = await bank.fresh()
    samples = {share: Seen() for share in SHARES}
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(working(bank, settings))
        forwarder = await stack.enter_async_context(started(bank, settings, *FORWARDER))
        await forwarder.ready()
        load = await stack.enter_async_context(clients(settings))
        await load.closed(size.seconds)
        rates = [await highest(load, worker, size.seconds) for _ in range(size.rounds)]
        result = Result()
        most = result.add("highest load, 64 clients", "events/s", rates).median
        for turn in range(size.rounds):
            for share in SHARES if turn % 2 else reversed(SHARES):
                seen = await load.steady(share * most, size.seconds)
                samples[share].due += seen.due
                samples[share].acknowledged += seen.acknowledged
    for share, seen in samples.items():
        result.spreads.append(
            Spread(f"{share:.0%} of the highest load, from when it was due", seen.due)
        )
    for share, seen in samples.items():
        result.spreads.append(Spread(f"{share:.0%}, from the acknowledgment", seen.acknowledged))
    late = Spread("", samples[0.5].acknowledged).percentile(99)
    result.ratios.append(Ratio("append to visible at half load, p99, ms", late, 60.0, most=True))
    result.notes.append(
        "Commands are sent at fixed times and counted from then on, whatever the ones before them "
        "took. The document is asked for by id every 2 ms. With fewer than 1000 samples p99.9 is "
        "the worst one."
    )
    return result
