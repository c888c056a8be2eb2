"""Freezing, unfreezing and closing accounts over HTTP: what they then take, on every replica."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest

from api.accounts.app import create_app
from pipeline.banking.events import CLOSED, FROZEN, UNFROZEN
from pipeline.eventstore import EventStore
from pipeline.support.settings import Settings
from tests.api.accounts.test_accounts_api import attempt, opened, read, send
from tests.harness import rounds
from tests.services import NOBODY, Client, problem, serving


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[EventStore]:
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    yield store
    await store.close()


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        yield client


@pytest.fixture
async def replica(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        yield client


async def refused(client: Client, name: str, path: str, account: str, **command: object) -> None:
    """The command answers 409 with this problem, which names the account."""
    async with client.post(path, json=command) as answer:
        document = await problem(answer, 409, name)
    assert document["account"] == account
    assert account in document["detail"]


async def takes_nothing(client: Client, account: str, name: str) -> None:
    """No command but unfreezing is taken; a transfer is not, whichever side it is of."""
    other = await opened(client, 50)
    for path in ("/deposit", "/withdraw"):
        await refused(client, name, path, account, id=account, money=1)
    for path in ("/freeze", "/close"):
        await refused(client, name, path, account, id=account)
    await refused(client, name, "/transfer", account, **{"from": account, "to": other, "money": 1})
    await refused(client, name, "/transfer", account, **{"from": other, "to": account, "money": 1})
    async with client.patch(f"/{account}", json={"owner": "Eve"}) as answer:
        assert (await problem(answer, 409, name))["account"] == account
    assert (await read(client, other))["version"] == 1


async def test_a_frozen_account_takes_nothing_until_it_is_unfrozen(
    bank: Client, replica: Client, store: EventStore
) -> None:
    account = await opened(bank, 7)
    await send(replica, "/deposit", id=account, money=1)
    await refused(bank, "account-not-frozen", "/unfreeze", account, id=account)
    frozen = await send(bank, "/freeze", id=account, reason="a writ")
    assert (frozen["status"], frozen["balance"], frozen["version"]) == ("frozen", 8, 3)
    for client in (bank, replica):
        await takes_nothing(client, account, "account-frozen")
        assert await read(client, account) == frozen
    assert (await send(replica, "/unfreeze", id=account))["status"] == "open"
    assert (await send(bank, "/withdraw", id=account, money=8))["balance"] == 0
    assert [(event["kind"], event["body"]) for event in await store.load(account, after=2)] == [
        (FROZEN, {"reason": "a writ"}),
        (UNFROZEN, {}),
        ("MoneyWithdrawn", {"money": 8}),
    ]


async def test_an_empty_account_can_be_closed_for_good(
    bank: Client, replica: Client, store: EventStore
) -> None:
    account = await opened(bank, 1)
    await refused(replica, "account-not-empty", "/close", account, id=account)
    await send(bank, "/withdraw", id=account, money=1)
    closed = await send(replica, "/close", id=account)
    assert (closed["status"], closed["balance"], closed["version"]) == ("closed", 0, 3)
    for client in (bank, replica):
        await takes_nothing(client, account, "account-closed")
        await refused(client, "account-closed", "/unfreeze", account, id=account)
        assert await read(client, account) == closed
    assert [event["kind"] for event in await store.load(account, after=2)] == [CLOSED]


async def test_texts_are_stored_composed(bank: Client, store: EventStore) -> None:
    """Also where a composed text is as long as may be, and was longer as it was sent."""
    account = (await send(bank, "/create", owner="Zoe\u0308" * 60, money=0))["id"]
    for path in ("/freeze", "/unfreeze", "/close"):  # each may follow the one before
        await send(bank, path, id=account, reason="e\u0301" * 500, public_reason="\u212b")
    events = await store.load(account)
    assert events[0]["body"]["owner"] == "Zo\u00eb" * 60
    for event in events[1:]:
        assert event["body"] == {"reason": "\u00e9" * 500, "public_reason": "\u00c5"}


@pytest.mark.parametrize("path", ["/freeze", "/unfreeze", "/close"])
async def test_it_takes_an_account_that_is_there(bank: Client, path: str) -> None:
    async with bank.post(path, json={"id": NOBODY}) as answer:
        await problem(answer, 404, "account-not-found")
    for wrong in ({}, {"id": "x"}, {"id": NOBODY, "money": 1}, {"id": NOBODY, "reason": 1}):
        async with bank.post(path, json=wrong) as answer:
            await problem(answer, 400, "invalid-input")


async def statuses(*commands: Awaitable[int]) -> list[int]:
    return await asyncio.gather(*commands)


async def test_no_money_moves_after_a_freeze_whoever_was_asked(
    bank: Client, replica: Client, store: EventStore
) -> None:
    for _ in range(rounds(10, 200)):
        account, other = await opened(bank, 5), await opened(replica, 5)
        there, back = {"from": account, "to": other}, {"from": other, "to": account}
        done = await statuses(
            attempt(bank, "/withdraw", id=account, money=1),
            attempt(replica, "/deposit", id=account, money=1),
            attempt(replica, "/transfer", **there, money=1),
            attempt(bank, "/freeze", id=account),
            attempt(bank, "/transfer", **back, money=1),
            attempt(replica, "/withdraw", id=account, money=1),
        )
        assert done[3] == 200
        assert set(done) <= {200, 409}
        events = await store.load(account, after=1)
        assert events[-1]["kind"] == FROZEN
        assert len(events) == done.count(200)
        assert (await read(replica, account))["status"] == "frozen"


async def test_of_a_close_and_a_deposit_at_once_one_is_refused(
    bank: Client, replica: Client
) -> None:
    for _ in range(rounds(10, 200)):
        account = await opened(bank, 0)
        commands = [
            attempt(bank, "/close", id=account),
            attempt(replica, "/deposit", id=account, money=1),
        ]
        done = await statuses(*commands)
        assert sorted(done) == [200, 409]
        after = await read(bank, account)
        closed = ("closed", 0) if done[0] == 200 else ("open", 1)
        assert (after["status"], after["balance"]) == closed
