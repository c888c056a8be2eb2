"""(j) What an event costs each process when commands come one by one, and in a burst."""

import asyncio
import signal
import statistics
from functools import partial
from typing import Final

from benchmarks.bank import Bank
from benchmarks.checkout import Checkout
from benchmarks.figures import Result
from benchmarks.history import deposit
from benchmarks.roles import (
    FORWARDER,
    WORKER,
    Clients,
    Roles,
    costs,
    serving,
)
from benchmarks.size import Size
from benchmarks.turns import Sample, in_turns
from pipeline.eventstore import EventStore
from pipeline.support.settings import Settings

TITLE: Final = "Ordinary load"
RATE: Final = 300.0
EVENLY, BURST = "spread evenly", "in a burst"
_IN_BURST: Final = (WORKER, FORWARDER, "nats", "elasticsearch")
"""Those that the events of a burst go through."""


async def once(bank: Bank, size: Size, checkout: Checkout, _: bool) -> list[Sample]:
    async with serving(bank, checkout, size.opened) as (settings, roles, load):
        return await _evenly(roles, load, size.ordinary) + await _burst(
            settings, roles, load.versions, size.burst
        )


async def _evenly(roles: Roles, load: Clients, seconds: float) -> list[Sample]:
    load.seconds.clear()
    before, applied = roles.used(), roles.applied
    rate = await load.evenly(RATE, seconds)
    await roles.have_applied(applied + len(load.seconds))
    used = costs(before, roles.used(), len(load.seconds))
    return [
        Sample("commands sent and answered", "commands/s", rate),
        Sample("a command, median", "ms", 1000 * statistics.median(load.seconds)),
        *(Sample(f"{name}, {EVENLY}", "µs/event", cost) for name, cost in used.items()),
    ]


async def _burst(
    settings: Settings, roles: Roles, versions: dict[str, int], count: int
) -> list[Sample]:
    """The forwarder stands still until all events of the burst are in the store."""
    store = EventStore(settings.mongodb, settings.mongodb_database)
    forwarder, rows = roles.processes[FORWARDER].child, count // len(versions)
    await forwarder.pause()
    try:
        for turn in range(1, 1 + rows):
            await asyncio.gather(*(store.append(deposit(a, v + turn)) for a, v in versions.items()))
        before, applied = roles.used(), roles.applied
    finally:
        forwarder.kill(signal.SIGCONT)
        await store.close()
    await roles.have_applied(applied + rows * len(versions))
    used = costs(before, roles.used(), rows * len(versions))
    return [
        Sample(f"{name}, {BURST}", "µs/event", cost)
        for name, cost in used.items()
        if name in _IN_BURST
    ]


def judge(result: Result) -> None:
    for name, goal in ((WORKER, 4.0), (FORWARDER, None), ("nats", None), ("elasticsearch", None)):
        if any(each.name == f"{name}, {BURST}" for each in result.figures):
            evenly, burst = (result.figure(f"{name}, {each}") for each in (EVENLY, BURST))
            result.compare(f"{name}, {EVENLY} / {BURST}", evenly, burst, goal, most=True)


async def measure(bank: Bank, size: Size) -> Result:
    result = await in_turns(bank, size.turns, partial(once, bank, size), judge)
    result.notes.append(
        f"Processor time of each process. Spread evenly: {RATE:g} deposits a second over HTTP for "
        f"{size.ordinary:g} s, at times that are fixed beforehand, into {size.opened} accounts at "
        f"random; what a process uses anyway, (l), is in it. In a burst: {size.burst} deposits "
        "into the same accounts, which the forwarder, stopped till then, finds in the event store "
        "all at once. Each round has a bank of its own."
    )
    return result
