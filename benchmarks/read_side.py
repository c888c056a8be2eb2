"""(i) Commands over HTTP with the whole bank running, and with nothing behind the event store."""

import time
from functools import partial
from typing import Final

from benchmarks.bank import Bank
from benchmarks.checkout import Checkout
from benchmarks.figures import Result
from benchmarks.roles import ACCOUNTS, READ_SIDE, Clients, Roles, bank_of, clients, costs
from benchmarks.size import Size
from benchmarks.turns import Sample, in_turns
from pipeline.embedded.up import accounts_url

TITLE: Final = "The read side beside the write side"
WHOLE, ALONE = "everything running", "account service and store alone"


async def once(bank: Bank, size: Size, checkout: Checkout, backwards: bool) -> list[Sample]:
    """A fresh bank: the one, then the other. Before either is measured the read side has shown all
    there is, or has never run."""
    async with (
        bank_of(bank, checkout) as (settings, roles),
        clients(accounts_url(settings)) as load,
    ):
        await roles.start(*((ACCOUNTS,) if backwards else ()))
        await load.open(size.opened)
        if backwards:
            alone = await _alone(roles, load, size.closed)
            await roles.start(*READ_SIDE)
            await roles.shown(load.versions)
            return await _whole(roles, load, size.closed) + alone
        await roles.shown(load.versions)
        whole = await _whole(roles, load, size.closed)
        await roles.stop(*READ_SIDE)
        return whole + await _alone(roles, load, size.closed)


async def _whole(roles: Roles, load: Clients, seconds: float) -> list[Sample]:
    """Commands a second, and events a second until the last one was shown."""
    before, applied, began = roles.used(), roles.applied, time.monotonic()
    load.seconds.clear()
    rate = await load.closed(seconds)
    count = len(load.seconds)
    ended = await roles.have_applied(applied + count)
    cost = sum(costs(before, roles.used(), count).values())
    return [
        Sample(f"HTTP, {WHOLE}", "commands/s", rate),
        Sample("the same, shown", "commands/s", count / (ended - began)),
        Sample(f"the bank's processor, {WHOLE}", "µs/command", cost),
    ]


async def _alone(roles: Roles, load: Clients, seconds: float) -> list[Sample]:
    before = roles.used()
    load.seconds.clear()
    rate = await load.closed(seconds)
    cost = sum(costs(before, roles.used(), len(load.seconds)).values())
    return [
        Sample(f"HTTP, {ALONE}", "commands/s", rate),
        Sample(f"the bank's processor, {ALONE}", "µs/command", cost),
    ]


def judge(result: Result) -> None:
    whole, alone = (result.figure(f"HTTP, {each}") for each in (WHOLE, ALONE))
    result.compare(f"HTTP, {WHOLE} / {ALONE}", whole, alone, 0.8)
    result.compare("shown / sent", result.figure("the same, shown"), whole)


async def measure(bank: Bank, size: Size) -> Result:
    result = await in_turns(bank, size.turns, partial(once, bank, size), judge)
    result.notes.append(
        f"64 clients pay into {size.opened} accounts for {size.closed:g} s, each waiting for its "
        "answer, on the same machine. Each round has a bank of its own; in every other one "
        "forwarder, worker and balance service are started only after the account service was "
        "measured alone, and have shown everything before they are measured."
    )
    return result
