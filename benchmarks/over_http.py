"""(k) The account service over HTTP, beside a bare handler that reads and answers the same JSON."""

from functools import partial
from typing import Final

from benchmarks.bank import Bank
from benchmarks.bare_http import ID
from benchmarks.checkout import Checkout
from benchmarks.children import Process, started
from benchmarks.figures import Result
from benchmarks.roles import ACCOUNTS, Clients, bank_of, clients
from benchmarks.size import Size
from benchmarks.turns import Sample, in_turns
from pipeline.embedded.up import accounts_url

TITLE: Final = "HTTP"
SERVICE, BARE = "account service", "bare handler"


async def once(bank: Bank, size: Size, checkout: Checkout, backwards: bool) -> list[Sample]:
    async with (
        bank_of(bank, checkout) as (settings, roles),
        started(bank, settings, "benchmarks.bare_http") as bare,
        clients(accounts_url(settings)) as load,
        clients(bare.metrics) as beside,
    ):
        await bare.ready()
        await roles.start(ACCOUNTS)
        await load.open(size.opened)
        beside.accounts.append(ID)
        both = [
            partial(_measured, SERVICE, roles.processes[ACCOUNTS], load, size.closed),
            partial(_measured, BARE, bare, beside, size.closed),
        ]
        found = [await each() for each in (both[::-1] if backwards else both)]
        return [sample for each in (found[::-1] if backwards else found) for sample in each]


async def _measured(name: str, process: Process, load: Clients, seconds: float) -> list[Sample]:
    """Commands a second, and as many as a core would allow if nobody else needed it."""
    load.seconds.clear()
    before = process.cpu
    rate = await load.closed(seconds)
    alone = len(load.seconds) / (process.cpu - before)
    return [
        Sample(name, "commands/s", rate),
        Sample(f"{name}, by its processor time", "commands/s on a core", alone),
    ]


def judge(result: Result) -> None:
    for how, words in (("", ""), (", by its processor time", ", by their processor time")):
        one, other = (result.figure(f"{each}{how}") for each in (SERVICE, BARE))
        result.compare(f"account service over HTTP / bare handler{words}", one, other, 0.5)


async def measure(bank: Bank, size: Size) -> Result:
    result = await in_turns(bank, size.turns, partial(once, bank, size), judge)
    result.notes.append(
        f"64 clients for {size.closed:g} s each; either is one process, and the clients are "
        "another on the same machine. The service stores each command in MongoDB, which needs "
        "processor time of its own; the second ratio leaves that out."
    )
    return result
