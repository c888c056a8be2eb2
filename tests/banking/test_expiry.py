"""Holds end by themselves: the process that expires them, on a bank's real store."""

from collections.abc import AsyncIterator

import pytest

from api.accounts.app import create_app
from pipeline.banking.expiry import EXPIRY
from pipeline.eventstore import EventStore
from pipeline.support.settings import Settings
from tests.commands import capture, create, freeze, hold, send, void
from tests.harness import eventually
from tests.processes import workers
from tests.services import Client, serving


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        yield client


async def opened(bank: Client) -> str:
    return str((await send(bank, create(money=100))).document["id"])


async def held(bank: Client, account: str, seconds: int) -> str:
    answer = await send(bank, hold(account, 10, seconds))
    assert answer.status == 200, answer
    return str(answer.document["hold"]["id"])


async def available(bank: Client, account: str) -> int:
    async with bank.get(f"/{account}") as answer:
        shown: int = (await answer.json())["available"]
        return shown


async def all_available(bank: Client, account: str) -> None:
    async def check() -> bool:
        return await available(bank, account) == 100

    await eventually(check, seconds=60, message="all is available")


async def test_holds_expire_whoever_runs_the_process_and_once(
    settings: Settings, bank: Client, store: EventStore
) -> None:
    account, frozen, late = [await opened(bank) for _ in "abc"]
    async with workers(settings, EXPIRY, "first", "second"):
        await held(bank, account, 1)
        await held(bank, frozen, 1)
        await send(bank, freeze(frozen))
        captured, voided = await held(bank, account, 3600), await held(bank, account, 3600)
        assert (await send(bank, capture(account, captured, 1))).status == 200
        assert (await send(bank, void(account, voided))).status == 200
        await held(bank, late, 3600)

        async def expired() -> bool:
            return await available(bank, account) == 99

        await eventually(expired, seconds=60, message="the hold has expired")
        await all_available(bank, frozen)
    # Its time comes while no worker runs.
    missed = await opened(bank)
    await held(bank, missed, 1)
    async with workers(settings, EXPIRY, "third"):
        await all_available(bank, missed)
    assert await available(bank, late) == 90
    ends = [event["kind"] for event in await store.load(account) if "hold" in event["body"]]
    assert sorted(ends) == ["HoldCaptured", "HoldExpired", "HoldVoided", *["MoneyHeld"] * 3]
