"""(l) What a bank uses while nothing happens."""

import asyncio
import time
from functools import partial
from typing import Final

from benchmarks.bank import Bank
from benchmarks.checkout import Checkout
from benchmarks.figures import Ratio, Result
from benchmarks.roles import serving
from benchmarks.size import Size
from benchmarks.turns import Sample, in_turns

TITLE: Final = "A bank at rest"
TOTAL: Final = "all roles and servers"
_REST_SECONDS: Final = 2.0
"""After the last event, for what follows on it, such as a checkpoint."""


async def once(bank: Bank, size: Size, checkout: Checkout, _: bool) -> list[Sample]:
    async with serving(bank, checkout, size.opened) as (_settings, roles, _load):
        await asyncio.sleep(_REST_SECONDS)
        before, began = roles.used(), time.monotonic()
        await asyncio.sleep(size.idle)
        seconds = time.monotonic() - began
        used = {name: 100 * (now - before[name]) / seconds for name, now in roles.used().items()}
    used[TOTAL] = sum(used.values())
    return [Sample(name, "% of a core", value) for name, value in used.items()]


def judge(result: Result) -> None:
    value = result.figure(TOTAL).median
    result.ratios.append(Ratio("a bank at rest, % of a core", value, 2.0, most=True))


async def measure(bank: Bank, size: Size) -> Result:
    result = await in_turns(bank, size.turns, partial(once, bank, size), judge)
    result.notes.append(
        f"For {size.idle:g} s, with 8 partitions, 2 projections and {size.opened} accounts. "
        "Servers by URL are in no figure. Each round has a bank of its own."
    )
    return result
