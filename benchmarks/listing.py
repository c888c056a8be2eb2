"""(m) A page of accounts, beside a document by its id."""

import asyncio
import itertools
import time
from functools import partial
from typing import Final

import aiohttp

from benchmarks.bank import Bank
from benchmarks.checkout import Checkout
from benchmarks.figures import Result
from benchmarks.roles import Roles, costs, serving
from benchmarks.size import Size
from benchmarks.turns import Sample, in_turns
from pipeline.embedded.up import balances_url

TITLE: Final = "Reads"
PAGE, PAGES, DOCUMENT = "the first page", "another page each time", "a document by id"
_FIRST: Final = "/?limit=10"
_CLIENTS: Final = 32
_TOLD: Final = ("balances", "elasticsearch")


async def once(bank: Bank, size: Size, checkout: Checkout, backwards: bool) -> list[Sample]:
    async with (
        serving(bank, checkout, size.listed) as (settings, roles, load),
        aiohttp.ClientSession(balances_url(settings)) as http,
    ):
        reads = {
            PAGE: [_FIRST],
            PAGES: await _pages(http),
            DOCUMENT: [f"/{each}" for each in load.accounts],
        }
        found = {
            name: await _read(roles, http, name, reads[name], size.closed)
            for name in (reversed(reads) if backwards else reads)
        }
    return [sample for name in reads for sample in found[name]]


async def _pages(http: aiohttp.ClientSession) -> list[str]:
    """All pages, each of another place in the list."""
    paths, at = [_FIRST], ""
    while True:
        async with http.get(paths[-1]) as answer:
            at = (await answer.json()).get("next", "")
        if not at:
            return paths
        paths.append(f"{_FIRST}&starting_after={at}")


async def _read(
    roles: Roles, http: aiohttp.ClientSession, name: str, paths: list[str], seconds: float
) -> list[Sample]:
    """Answers a second, and what one costs."""
    before, began, left, count = roles.used(), time.perf_counter(), itertools.cycle(paths), 0

    async def client() -> None:
        nonlocal count
        while time.perf_counter() < began + seconds:
            async with http.get(next(left)) as answer:
                answer.raise_for_status()
                await answer.read()
            count += 1

    await asyncio.gather(*(client() for _ in range(_CLIENTS)))
    rate = count / (time.perf_counter() - began)
    used = costs(before, roles.used(), count)
    return [
        Sample(name, "answers/s", rate),
        *(Sample(f"{each}, {name}", "µs/answer", used[each]) for each in _TOLD if each in used),
    ]


def judge(result: Result) -> None:
    document = result.figure(DOCUMENT)
    result.compare(f"{PAGE} of accounts / {DOCUMENT}", result.figure(PAGE), document, 0.8)
    result.compare(f"{PAGES} / {DOCUMENT}", result.figure(PAGES), document)


async def measure(bank: Bank, size: Size) -> Result:
    result = await in_turns(bank, size.turns, partial(once, bank, size), judge)
    result.notes.append(
        f"{_CLIENTS} clients for {size.closed:g} s each read `GET :8030/?limit=10`; all the pages "
        f"of ten in turn; or each of {size.listed:,} accounts in turn, while nothing is written."
    )
    return result
