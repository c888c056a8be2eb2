"""Customers see the fields that are listed, whatever else a record in a store has."""

from typing import Any, Final, get_type_hints

import pytest
from ulid import ULID

from api.accounts.app import create_app as accounts
from api.balances.app import create_app as balances
from api.balances.queries import STALE
from api.balances.routes import INDEX
from api.balances.statements import STATEMENTS
from pipeline.banking.balance import Balance
from pipeline.banking.statement import Entry
from pipeline.eventstore import EventStore
from pipeline.model.events import new_event
from pipeline.operations.keys import Role
from pipeline.support.settings import Settings
from tests.bank import history
from tests.keys import guarded, holder, on
from tests.services import problem

OWN: Final = str(ULID())
SECRETS: Final = {"idempotency_key": "secret", "actor": {"key": "secret"}, "reason": "secret"}


def record(shape: type) -> dict[str, Any]:
    """With every field that the shape has, and some that it has not."""
    return {**dict.fromkeys(get_type_hints(shape), 1), "status": {"secret": 1}, **SECRETS}


async def both(settings: Settings, path: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a customer and a teller see of documents that have more than they should."""

    async def get(_: str) -> dict[str, Any]:
        return record(Balance)

    async def page(*_: Any) -> tuple[list[dict[str, Any]], bool]:
        return [record(Entry)], False

    customer = await holder(settings, Role.CUSTOMER, accounts=frozenset({OWN}))
    teller = await holder(settings, Role.TELLER)
    found = []
    changes = {"projections": "balance statement"}
    async with guarded(balances(on(settings, **changes))) as client:
        assert client.app is not None
        monkeypatch.setattr(client.app[INDEX], "get", get)
        monkeypatch.setattr(client.app[STATEMENTS], "page", page)
        for headers in (customer, teller):
            async with client.get(path, headers=headers) as answer:
                assert answer.status == 200
                found.append(await answer.json())
    return found


async def test_documents(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for query in ("", "?min_version=2&timeout=0"):
        customers, tellers = await both(settings, f"/{OWN}{query}", monkeypatch)
        assert tellers.items() >= record(Balance).items()
        stale = {"stale"} if query else set()
        assert customers.keys() == get_type_hints(Balance).keys() - {"status"} | stale
        assert customers.keys() <= get_type_hints(STALE).keys()


async def test_entries(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    customers, tellers = await both(settings, f"/{OWN}/statement", monkeypatch)
    assert tellers["data"] == [record(Entry)]
    assert customers["data"][0].keys() == get_type_hints(Entry).keys()


async def test_why_an_account_is_unreadable(settings: Settings) -> None:
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    bad = new_event(OWN, 3, "MoneyDeposited", {"money": "secret"})
    await store.append(*history(OWN, 2), bad)
    await store.close()
    customer = await holder(settings, Role.CUSTOMER, accounts=frozenset({OWN}))
    teller = await holder(settings, Role.TELLER)
    async with guarded(accounts(on(settings))) as client:
        for headers, told in ((customer, False), (teller, True)):
            for answer in (
                await client.get(f"/{OWN}", headers=headers),
                await client.post("/withdraw", headers=headers, json={"id": OWN, "money": 1}),
            ):
                document = await problem(answer, 503, "account-unreadable")
                assert ("secret" in document["detail"]) == told
