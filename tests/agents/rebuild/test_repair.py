"""`bank verify --repair`, dry runs and single accounts, in a bank at work that hands damage."""

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pymongo
import pytest
from ulid import ULID

from pipeline.banking.balance import BALANCE
from pipeline.banking.events import DEPOSITED
from pipeline.model.events import SLOTS, Event, new_event
from pipeline.operations.checker.live import opened
from pipeline.operations.repair.diff import Difference
from pipeline.operations.repair.offline import offline_repair
from pipeline.tables.parked_accounts import ParkedAccountList
from tests.agents.rebuild.bank import Bank, fill
from tests.bank import documents
from tests.damage import CHANGES, GHOSTS, Hand
from tests.harness import LONG_LANE, Role, eventually, rounds
from tests.load import Load

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(rounds(300, 1500))]


@asynccontextmanager
async def a_hand(bank: Bank) -> AsyncIterator[Hand]:
    async with aiohttp.ClientSession(bank.settings.elasticsearch_url) as http:
        yield Hand(http, "balance")


async def damage(bank: Bank, quiet: list[str], busy: list[str]) -> dict[str, str]:
    """Every kind of damage to accounts of both sorts, and ghosts; what differs now, and how."""
    ghosts = [*(str(ULID()) for _ in range(8)), "no account's", "ﬁ/ø?&"]
    async with a_hand(bank) as hand:
        for number, account_id in enumerate([*quiet, *busy]):
            await hand.do(CHANGES[number % len(CHANGES)], account_id)
        for number, account_id in enumerate(ghosts):
            await hand.do(GHOSTS[number % len(GHOSTS)], account_id)
    kinds = {
        account_id: "missing" if CHANGES[n % len(CHANGES)] == "delete" else "differs"
        for n, account_id in enumerate(quiet)
    }
    return kinds | dict.fromkeys(ghosts, "extra")


async def differences(bank: Bank, patience: float) -> dict[str, Difference]:
    async with opened(bank.settings) as stores, offline_repair(bank.settings, stores) as offline:
        compared = offline.comparison(patience).slots(range(SLOTS))
        return {each.account_id: each async for each in compared}


async def names(bank: Bank, wanted: dict[str, str], busy: list[str]) -> bool:
    """Whether these differ, and of the others only those that may have come right meanwhile."""
    found = await differences(bank, 8)
    assert {each: d.what for each, d in found.items() if each not in busy} == wanted
    return True


async def said(bank: Bank, *words: str) -> tuple[int, str]:
    """A command's exit code, and what it printed."""
    async with Role(bank.settings, "bank", *words) as command:
        return await command.wait(120), command.log()


async def verdict(bank: Bank, *options: str) -> tuple[int, Any]:
    code, told = await said(bank, "verify", "--json", *options)
    return code, json.loads(told)


@LONG_LANE
@pytest.mark.drill
async def test_verify_repairs_under_load(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    for _ in range(2):
        await bank.worker()
    quiet = await fill(bank.store, 2 * len(CHANGES) + 10, 4)
    load = Load(bank.store)
    await load.write(60)
    await bank.becomes_exact()
    for _ in range(rounds(1, 10)):
        async with load.steady(100):
            shown = await documents(bank.settings.elasticsearch_url)
            busy = random.sample(sorted(shown.keys() - {*quiet}), len(CHANGES))
            wanted = await damage(bank, quiet[: 2 * len(CHANGES)], busy)
            named = partial(names, bank, wanted, busy)
            await eventually(named, seconds=60, message="all damage is named, and nothing else")
            code, report = await verdict(bank, "--repair", "--patience", "4")
            assert code == 0, report
            assert report["repaired"]["found"] >= len(wanted)
            assert len(report["repaired"]["first"]) == 20
            assert report["repaired"]["removed"] == 10
            await load.more(200)
        await bank.becomes_exact()
        assert not await differences(bank, 1)
        await deposit(bank, quiet)
        await bank.becomes_exact()


@pytest.mark.drill
async def test_repair_needs_no_worker(bank: Bank) -> None:
    """And those that were asleep the while go on over what was repaired."""
    await bank.start("bank", "forwarder")
    workers = [await bank.worker() for _ in range(2)]
    quiet = await fill(bank.store, 2 * len(CHANGES), 3)
    await bank.becomes_exact()
    await workers[0].stop()
    await workers[1].kill(signal.SIGSTOP)
    wanted = await damage(bank, quiet, [])
    code, told = await said(bank, "verify", "--repair", "--patience", "1")
    assert code == 0, told
    repaired = [line for line in told.splitlines() if line.startswith("repaired: ")]
    assert repaired[-1] == f"repaired: and {len(wanted) - 20} more"
    assert {line.split("  ")[0][10:] for line in repaired[:-1]} < wanted.keys()
    assert f"{len(wanted)} documents differed: {len(quiet)} written, 10 removed" in told
    await workers[1].kill(signal.SIGCONT)
    await deposit(bank, quiet)
    await bank.becomes_exact()


@LONG_LANE
@pytest.mark.drill
async def test_a_parked_account_goes_on_when_its_cause_is_mended(bank: Bank) -> None:
    """With a worker that takes it off the list, and without one."""
    await bank.start("bank", "forwarder")
    worker = await bank.worker()
    ids = await fill(bank.store, 2, 3)
    await bank.becomes_exact()
    for account_id in ids:
        await bank.store.append(event(account_id, 4, "MoneyPrinted"))
    async with opened(bank.settings) as stores:
        parked = ParkedAccountList(stores.js, BALANCE)

        async def both() -> bool:
            await parked.refresh()
            return all(each in parked for each in ids)

        await eventually(both, seconds=60)
        for number, account_id in enumerate(ids):
            if number:
                await worker.stop()
            code, told = await said(bank, "rebuild", "--account", account_id)
            why = "still parked: event of unknown kind MoneyPrinted"
            assert (code, why in told) == (1, True), told
            await mend_event(bank, account_id, 4)
            await bank.store.append(event(account_id, 5))
            code, told = await said(bank, "rebuild", "--account", account_id)
            assert (code, "parked no more" in told) == (0, True), told
            await parked.refresh()
            assert account_id not in parked
            shown = (await stores.projection.documents([account_id]))[account_id]
            assert shown["version"] == 5
    await bank.worker()
    await deposit(bank, ids)
    await bank.becomes_exact()
    assert not await differences(bank, 1)


async def deposit(bank: Bank, account_ids: list[str]) -> None:
    """The accounts' next events."""
    heads = await asyncio.gather(*map(bank.store.head, account_ids))
    more = [event(each, head + 1) for each, head in zip(account_ids, heads, strict=True)]
    await asyncio.gather(*map(bank.store.append, more))


def event(account_id: str, version: int, kind: str = DEPOSITED) -> Event:
    return new_event(account_id, version, kind, {"money": 1})


async def mend_event(bank: Bank, account_id: str, version: int) -> None:
    """Make a deposit of it."""
    wanted = {"account_id": account_id, "version": version}
    with pymongo.MongoClient[Any](bank.settings.mongodb_url, retryWrites=False) as client:
        events = client[bank.settings.mongodb_database]["events"]
        result = await asyncio.to_thread(events.update_one, wanted, {"$set": {"kind": DEPOSITED}})
    assert result.modified_count == 1
