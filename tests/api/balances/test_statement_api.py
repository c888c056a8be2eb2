"""`GET /{id}/statement`: in order, in pages, of some kinds, between two times."""

import itertools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from api.balances.app import create_app
from api.http.cursors import encode
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import CREATED, DEPOSITED, OWNER_UPDATED, WITHDRAWN
from pipeline.banking.statement import STATEMENT
from pipeline.model.events import Event, new_event
from pipeline.support.settings import Settings
from tests.services import NOBODY, Client, problem, serving
from tests.stores import stores

pytestmark = pytest.mark.elasticsearch

ADA, BOB = "01J00000000000000000000000", "01J00000000000000000000001"
BEGAN = datetime(2026, 1, 1, 12)
WORDS = {
    2: ("R/1", "Rent of the red house"),
    3: ("R/2", "rent of the blue house"),
    5: ("R/1", "Café, née — 24 €"),
    7: ("r/1", "red"),
}
"""References and descriptions, by version."""


def events_of(account_id: str) -> list[Event]:
    """Twenty-five, an hour apart."""
    kinds = [CREATED, *([DEPOSITED, WITHDRAWN, OWNER_UPDATED, DEPOSITED] * 6)]
    events = []
    for version, kind in enumerate(kinds, start=1):
        event = new_event(account_id, version, kind, {"owner": "Ada", "money": version})
        if words := WORDS.get(version):
            event["reference"], event["description"] = words
        events.append({**event, "created_at": BEGAN + timedelta(hours=version)})
    return events  # type: ignore[return-value]


def keeping(settings: Settings) -> Settings:
    return settings.model_copy(update={"projections": "balance statement"})


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    """With two accounts, whose entries all are visible to searches."""
    for projection in (BALANCE, STATEMENT):
        async with stores(settings, projection) as world:
            await world.table().apply([*events_of(ADA), *events_of(BOB)])
            await world.elastic.client.indices.refresh(index=projection.name)
    async with serving(create_app(keeping(settings))) as client:
        yield client


async def page(client: Client, account_id: str = ADA, **query: Any) -> dict[str, Any]:
    async with client.get(f"/{account_id}/statement", params=query) as answer:
        assert answer.status == 200, await answer.text()
        document: dict[str, Any] = await answer.json()
        return document


async def versions(client: Client, **query: Any) -> list[int]:
    found = await page(client, **query)
    assert not found["has_more"]
    return [each["version"] for each in found["data"]]


async def test_the_newest_comes_first_with_the_balance_after_it(bank: Client) -> None:
    found = await page(bank, BOB)
    assert found["has_more"]
    assert [each["version"] for each in found["data"]] == [*range(25, 5, -1)]
    assert {each["account_id"] for each in found["data"]} == {BOB}
    newest, before = found["data"][:2]
    assert newest["balance"] == before["balance"] + newest["amount"]
    assert newest.keys() == STATEMENT.fields


async def walk(client: Client, given: str, **query: Any) -> list[int]:
    """The versions on all pages; each page starts after the cursor or the version before it."""
    seen: list[int] = []
    after: dict[str, Any] = {}
    while True:
        found = await page(client, **query, **after)
        seen += [each["version"] for each in found["data"]]
        if not found["has_more"]:
            return seen
        after = {"starting_after": found["next"] if given == "next" else seen[-1]}


async def test_pages_follow_each_other(bank: Client) -> None:
    ways = itertools.product(("next", "version"), ("version", "-version"), (1, 7, 25, 100))
    for given, sort, limit in ways:
        seen = await walk(bank, given, sort=sort, limit=limit)
        expected = sorted(range(1, 26), reverse=sort == "-version")
        assert seen == expected, (given, sort, limit)


async def test_kinds_and_times_are_chosen(bank: Client) -> None:
    assert await versions(bank, kind=CREATED) == [1]
    both = await versions(bank, kind=f"{WITHDRAWN},{OWNER_UPDATED}")
    assert both == sorted((v for v in range(1, 26) if v % 4 in (3, 0)), reverse=True)
    day = {"since": "2026-01-01T15:00:00Z", "until": "2026-01-01T20:00:00+01:00"}
    assert await versions(bank, sort="version", **day) == [3, 4, 5, 6]
    assert await versions(bank, since="2027-01-01T00:00:00Z") == []
    assert await versions(bank, kind=DEPOSITED, until="2026-01-01T14:30:00Z") == [2]


async def test_entries_show_the_clients_words_and_are_found_by_them(bank: Client) -> None:
    found = {each["version"]: each for each in (await page(bank, limit=25))["data"]}
    for version, entry in found.items():
        reference, description = WORDS.get(version, (None, None))
        assert (entry["reference"], entry["description"]) == (reference, description)
    assert await versions(bank, reference="R/1") == [5, 2]
    assert await versions(bank, reference="r/1") == [7]
    assert await versions(bank, reference="R") == []
    assert await versions(bank, search="house") == [3, 2]
    assert await versions(bank, search="RED") == [7, 2]
    assert await versions(bank, search="red house") == [2]
    assert await versions(bank, search="cafe\u0301") == [5]
    assert await versions(bank, search="house", kind=DEPOSITED) == [2]
    assert await versions(bank, search='red" OR *:*') == []


async def test_bad_parameters_are_named(bank: Client) -> None:
    bad: list[tuple[dict[str, str], str]] = [
        ({"reference": ""}, "reference"),
        ({"reference": "x" * 141}, "reference"),
        ({"search": "\x00"}, "search"),
        ({"search": "x" * 501}, "search"),
        ({"kind": "MoneyPrinted"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-02-30T00:00:00Z"}, "until"),
        ({"sort": "amount"}, "sort"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"starting_after": "-1"}, "starting_after"),
        ({"starting_after": ADA}, "starting_after"),
        ({"starting_after": encode("balance -balance", [1, ADA])}, "starting_after"),
        ({"starting_after": encode("statement asc", [1])}, "starting_after"),
        ({"starting_after": encode("statement desc", ["1"])}, "starting_after"),
        ({"page": "2"}, "page"),
    ]
    for query, parameter in bad:
        async with bank.get(f"/{ADA}/statement", params=query) as answer:
            document = await problem(answer, 400, "invalid-input")
        assert [each["parameter"] for each in document["errors"]] == [parameter], query


async def test_an_account_that_is_not_there_has_no_statement(bank: Client) -> None:
    async with bank.get(f"/{NOBODY}/statement") as answer:
        await problem(answer, 404, "account-not-found")


async def test_without_the_projection_it_is_said(settings: Settings) -> None:
    async with (
        serving(create_app(keeping(settings)), ready=False) as client,
        client.get(f"/{ADA}/statement") as answer,
    ):
        await problem(answer, 503, "projection-unavailable")


async def test_a_bank_that_keeps_no_statements_says_so(settings: Settings) -> None:
    async with (
        serving(create_app(settings), ready=False) as client,
        client.get(f"/{ADA}/statement") as answer,
    ):
        await problem(answer, 404, "projection-not-found")
