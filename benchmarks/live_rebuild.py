"""(d), its second half: whole rebuilds by a worker, alone and beside steady commands."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from benchmarks.bank import Bank
from benchmarks.children import started, working
from benchmarks.figures import Result, Spread
from benchmarks.latency import FORWARDER
from benchmarks.load import Load, Seen, clients
from benchmarks.rounds import Measure
from benchmarks.size import Size
from benchmarks.stream import connected
from pipeline.banking.balance import BALANCE
from pipeline.eventstore import EventStore
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_jobs import RebuildJobs

QUIET: Final = "whole rebuild by a worker, no other load"
_AFTER: Final = 0.5
"""Seconds between a rebuild and the next one."""


async def measure(bank: Bank, settings: Settings, size: Size, result: Result) -> None:
    """Add to the result what rebuilds of that bank, which has events already, come to."""
    rates: dict[str, list[float]] = {QUIET: []}
    beside = f"whole rebuild by a worker, beside {size.beside} commands/s"
    rates[beside] = []
    before, during = Seen(), Seen()
    async with AsyncExitStack() as stack:
        js = await stack.enter_async_context(connected(settings))
        await stack.enter_async_context(working(bank, settings))
        forwarder = await stack.enter_async_context(started(bank, settings, *FORWARDER))
        await forwarder.ready()
        load = await stack.enter_async_context(clients(settings))
        await load.steady(size.beside, size.seconds)  # until all is settled
        store = EventStore(settings.mongodb_url, settings.mongodb_database)
        stack.push_async_callback(store.close)
        jobs = RebuildJobs(js, BALANCE)

        async def rebuild() -> float:
            return await rebuilt(jobs, settings, store)

        for _ in range(size.rounds):
            seen = await load.steady(size.beside, size.seconds)
            before.due += seen.due
            rates[QUIET].append(await rebuild())
            rates[beside].append(await _beside(load, rebuild, size, during))
    quiet, loaded = (result.add(name, "events/s", each) for name, each in rates.items())
    result.compare("rebuild beside load / without", loaded, quiet)
    commands = f"{size.beside} commands/s to visible"
    result.spreads.append(Spread(f"{commands}, no rebuild", before.due))
    result.spreads.append(Spread(f"{commands}, during a rebuild", during.due))


async def rebuilt(jobs: RebuildJobs, settings: Settings, store: EventStore) -> float:
    """Rebuild all partitions, one at a time, and wait for the end; events a second."""
    events, began = await store.count(), time.monotonic()
    partitions = settings.partitions
    job, _ = await jobs.start("online", range(partitions), partitions)
    while (now := jobs.job(job.id)) is None or now.phase in ("wanted", "building"):
        await asyncio.sleep(0.02)
        await jobs.refresh()
    if now.phase in ("failed", "cancelled"):
        raise RuntimeError(f"the rebuild {now.phase}: {now.reason}")
    rate = events / (time.monotonic() - began)
    while (now := jobs.job(job.id)) is not None and now.active:
        await asyncio.sleep(0.05)
        await jobs.refresh()
    await asyncio.sleep(_AFTER)
    return rate


async def _beside(load: Load, rebuild: Measure, size: Size, during: Seen) -> float:
    over = asyncio.Event()
    sending = asyncio.create_task(load.steady(size.beside, 600, over))
    try:
        return await rebuild()
    finally:
        over.set()
        during.due += (await sending).due
