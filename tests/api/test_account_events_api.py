"""An account's events as both services tell them: the same ones, straight from the event store."""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from ulid import ULID

from api.accounts.app import create_app as accounts
from api.balances.app import create_app as balances
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore
from pipeline.model.events import new_event
from pipeline.operations.keys import Role
from pipeline.support.settings import Settings
from tests.bank import append, history
from tests.keys import guarded, holder, on
from tests.services import NOBODY, Client, problem, serving

SERVICES = {"accounts": accounts, "balances": balances}


@pytest.fixture
async def account_id(settings: Settings) -> AsyncIterator[str]:
    """An account of 25 events, which are in the store and nowhere else."""
    store, found = EventStore(settings.mongodb_url, settings.mongodb_database), str(ULID())
    await store.setup()
    await append(store, [history(found, 25)])
    yield found
    await store.close()


@pytest.fixture(params=SERVICES)
async def client(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Client]:
    async with serving(SERVICES[request.param](settings), ready=False) as client:
        yield client


async def page(client: Client, account_id: str, **query: str) -> dict[str, Any]:
    async with client.get(f"/{account_id}/events", params=query) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def test_pages_of_events(client: Client, account_id: str) -> None:
    whole = await page(client, account_id)
    assert [each["version"] for each in whole["data"]] == list(range(1, 26))
    assert not whole["has_more"]
    assert {each["account_id"] for each in whole["data"]} == {account_id}
    found: list[Any] = []
    while True:
        after = str(found[-1]["version"]) if found else "0"
        part = await page(client, account_id, after=after, limit="10")
        found += part["data"]
        if not part["has_more"]:
            break
    assert found == whole["data"]
    assert await page(client, account_id, after="25") == {"data": [], "has_more": False}


async def test_the_newest_first_or_from_a_version_on(client: Client, account_id: str) -> None:
    whole = (await page(client, account_id))["data"][::-1]
    assert (await page(client, account_id, sort="-version"))["data"] == whole
    found: list[Any] = []
    part = await page(client, account_id, sort="-version", limit="10")
    while True:
        found += part["data"]
        if not part["has_more"]:
            break
        part = await page(client, account_id, sort="-version", limit="10", after=part["next"])
    assert found == whole
    at_seven = await page(client, account_id, sort="-version", after="8", limit="3")
    assert [each["version"] for each in at_seven["data"]] == [7, 6, 5]
    assert at_seven["next"] == "5"
    for after in ("0", "1"):
        empty = await page(client, account_id, sort="-version", after=after)
        assert empty == {"data": [], "has_more": False}
    assert (await page(client, account_id, sort="-version", after="99"))["data"] == whole


async def test_an_account_that_is_not_there_and_parameters_that_are_none(
    client: Client, account_id: str
) -> None:
    for query in ("", "?after=3", "?sort=-version", "?sort=-version&after=3"):
        document = await problem(
            await client.get(f"/{NOBODY}/events{query}"), 404, "account-not-found"
        )
        assert document["account"] == NOBODY
    for query in ("limit=0", "limit=1001", "after=-1", "after=x", "before=1", "sort=kind"):
        await problem(await client.get(f"/{account_id}/events?{query}"), 400, "invalid-input")


async def test_both_services_tell_the_same(settings: Settings, account_id: str) -> None:
    async with (
        serving(accounts(settings), ready=False) as one,
        serving(balances(settings), ready=False) as other,
    ):
        assert await page(one, account_id) == await page(other, account_id)


async def test_a_customer_sees_those_of_no_other_account(
    settings: Settings, account_id: str
) -> None:
    customer = await holder(settings, Role.CUSTOMER, accounts=frozenset({account_id}))
    async with guarded(balances(on(settings))) as client:
        async with client.get(f"/{account_id}/events", headers=customer) as answer:
            assert answer.status == 200
        await problem(await client.get(f"/{NOBODY}/events", headers=customer), 403, "not-allowed")


FREEZING: Final = {
    "reason": "secret: report filed; do not tell",
    "public_reason": "call us",
    "reference": "R-1",
    "description": "on request",
    "note": "secret",
    "transfer": {"id": "T", "counterparty": NOBODY, "note": "secret"},
    "owner": {"secret": "in the place of a text"},
    "money": ["secret"],
}
ENVELOPE: Final = {
    "idempotency_key": "secret key of the teller",
    "request": "secret hash",
    "correlation_id": "secret of the payer",
    "causation_id": "secret cause",
    "traceparent": "secret trace",
    "actor": {"key": "secret", "role": "teller"},
    "hash": "secret",
    "reference": "R-2",
    "description": "for both",
}


@pytest.mark.parametrize("role", Role)
async def test_a_customer_sees_only_what_is_listed(
    settings: Settings, account_id: str, role: Role
) -> None:
    """Whatever an event has: in its envelope, its body, or within that. Others see all of it."""
    event = new_event(account_id, 26, "AccountFrozen", FREEZING)
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.append({**event, **ENVELOPE})  # type: ignore[typeddict-item]
    await store.close()
    own = frozenset({account_id} if role is Role.CUSTOMER else ())
    headers = await holder(settings, role, accounts=own)
    for service in SERVICES.values():
        async with (
            guarded(service(on(settings))) as client,
            client.get(f"/{account_id}/events?after=25", headers=headers) as answer,
        ):
            text, [shown] = await answer.text(), (await answer.json())["data"]
        assert ("secret" in text) == (role is not Role.CUSTOMER)
        assert shown["body"]["public_reason"] == "call us"
        assert (shown["reference"], shown["body"]["description"]) == ("R-2", "on request")
        if role is Role.CUSTOMER:
            assert shown["body"].keys() == {
                "public_reason", "reference", "description", "transfer"
            }  # fmt: skip
            assert shown["body"]["transfer"] == {"id": "T", "counterparty": NOBODY}


async def test_without_the_store_it_says_so(own_servers: EmbeddedServers) -> None:
    async with serving(balances(own_servers.settings), ready=False) as client:
        await own_servers.servers["mongodb"].stop()
        await problem(await client.get(f"/{NOBODY}/events"), 503, "store-unavailable")
