"""An account in time: each event with the state before and after it, from the event store."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from ulid import ULID

from api.balances.app import create_app
from pipeline.banking.account import ACCOUNT
from pipeline.banking.events import DEPOSITED
from pipeline.eventstore import EventStore
from pipeline.model.events import Event, new_event, rfc3339
from pipeline.model.versioned import evolve, initial
from pipeline.operations.keys import Role
from pipeline.support.settings import Settings
from tests.bank import append, history
from tests.keys import guarded, holder, on
from tests.services import NOBODY, Client, problem, serving


@pytest.fixture
async def events(settings: Settings) -> AsyncIterator[list[Event]]:
    """Those of an account, a minute apart; they are in the store and nowhere else."""
    store, account_id = EventStore(settings.mongodb_url, settings.mongodb_database), str(ULID())
    await store.setup()
    made = history(account_id, 25)
    first = made[0]["created_at"]
    for each in made:
        each["created_at"] = first + timedelta(minutes=each["version"])
    await append(store, [made])
    yield made
    await store.close()


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings), ready=False) as client:
        yield client


async def page(client: Client, account_id: str, **query: Any) -> dict[str, Any]:
    async with client.get(f"/{account_id}/history", params=query) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def test_each_step_has_the_state_before_and_after_it(
    client: Client, events: list[Event]
) -> None:
    account_id, state = events[0]["account_id"], initial(ACCOUNT, events[0]["account_id"])
    whole = await page(client, account_id, limit=100)
    assert not whole["has_more"]
    steps = whole["data"][::-1]
    assert [each["version"] for each in steps] == [*range(1, 26)]
    for event, step, before in zip(events, steps, [None, *steps], strict=False):
        state = evolve(ACCOUNT, state, event)
        assert step["event"]["_id"] == event["_id"]
        assert step["before"] == (before and before["after"])
        after = (step["after"]["balance"], step["after"]["owner"], step["after"]["version"])
        assert after == (state.state.balance, state.state.owner, state.version)


async def test_a_walk_back_has_each_step_once(client: Client, events: list[Event]) -> None:
    account_id = events[0]["account_id"]
    whole = (await page(client, account_id, limit=100))["data"]
    found: list[Any] = []
    part = await page(client, account_id, limit=7)
    while True:
        found += part["data"]
        if not part["has_more"]:
            break
        part = await page(client, account_id, limit=7, version=part["next"])
    assert found == whole


async def test_it_begins_at_a_version_or_a_time(client: Client, events: list[Event]) -> None:
    account_id, at = events[0]["account_id"], events[9]["created_at"]
    by_version = await page(client, account_id, version=10, limit=2)
    assert [each["version"] for each in by_version["data"]] == [10, 9]
    for moment in (at, at + timedelta(seconds=30)):
        assert await page(client, account_id, at=rfc3339(moment), limit=2) == by_version
    earlier = rfc3339(at - timedelta(seconds=1))
    assert (await page(client, account_id, at=earlier, limit=1))["data"][0]["version"] == 9


async def test_from_an_event_on_that_can_t_be_folded_it_says_why(
    settings: Settings, client: Client, events: list[Event]
) -> None:
    account_id = events[0]["account_id"]
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.append(new_event(account_id, 26, "MoneyPrinted", {"money": 1}))
    await store.append(new_event(account_id, 27, DEPOSITED, {"money": 1}))
    await store.close()
    for limit in (1, 2, 3):
        steps = (await page(client, account_id, limit=limit))["data"]
        assert [each["version"] for each in steps] == [27, 26, 25][:limit]
        for step in steps[:2]:
            assert step["after"] is None
            assert "event of unknown kind MoneyPrinted" in step["unreadable"]
            assert step["unreadable_from"] == 26
    assert (steps[1]["before"], steps[2]["unreadable"]) == (steps[2]["after"], None)
    assert steps[2]["unreadable_from"] is None
    assert (steps[1]["event"]["kind"], steps[0]["before"]) == ("MoneyPrinted", None)


async def test_what_is_refused(client: Client, events: list[Event]) -> None:
    account_id = events[0]["account_id"]
    before = rfc3339(events[0]["created_at"] - timedelta(hours=1))
    for path, status, name in (
        (f"/{NOBODY}/history", 404, "account-not-found"),
        (f"/{NOBODY}/history?version=1", 404, "account-not-found"),
        (f"/{account_id}/history?at={before}", 404, "account-not-found"),
        (f"/{account_id}/history?version=26", 404, "version-not-found"),
        (f"/{account_id}/history?version=0", 400, "invalid-input"),
        (f"/{account_id}/history?limit=101", 400, "invalid-input"),
        (f"/{account_id}/history?version=1&at={before}", 400, "invalid-input"),
        (f"/{account_id}/history?sort=version", 400, "invalid-input"),
    ):
        await problem(await client.get(path), status, name)


async def test_a_customer_sees_only_what_is_listed_of_the_own_account(
    settings: Settings, events: list[Event]
) -> None:
    account_id = events[0]["account_id"]
    customer = await holder(settings, Role.CUSTOMER, accounts=frozenset({account_id}))
    async with guarded(create_app(on(settings))) as client:
        async with client.get(f"/{account_id}/history", headers=customer) as answer:
            assert answer.status == 200
            for step in (await answer.json())["data"]:
                assert "correlation_id" not in step["event"]
        await problem(await client.get(f"/{NOBODY}/history", headers=customer), 403, "not-allowed")
