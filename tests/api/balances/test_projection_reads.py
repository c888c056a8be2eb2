"""`GET /projections/{name}` and `/projections/{name}/{id}`: any projection, of any application."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.balances import monotonic
from api.balances.app import create_app
from pipeline.banking.balance import BALANCE
from pipeline.banking.statement import STATEMENT
from pipeline.eventstore import EventStore
from pipeline.model.events import Event, new_event
from pipeline.support.settings import Settings
from tests.apps.post import POST, SCANNED, SENT
from tests.bank import accounts, stored
from tests.conftest import beside
from tests.services import Client, problem, serving
from tests.stores import stores

pytestmark = pytest.mark.elasticsearch

TOWNS = ("Porto", "Lisboa", "Faro", "Porto")


def parcel(number: int) -> list[Event]:
    town = TOWNS[number % len(TOWNS)]
    sent = {"at": town, "to": f"Rua das Flores {number}"}
    scans = [new_event(f"parcel-{number}", 2 + i, SCANNED, {"at": town}) for i in range(number)]
    return [new_event(f"parcel-{number}", 1, SENT, sent), *scans]


@pytest.fixture
def of_post(settings: Settings) -> Settings:
    return beside(settings, "tests.apps.post:POST", "places scans")


@pytest.fixture
async def post(of_post: Settings) -> AsyncIterator[Client]:
    """With eight parcels, of which each has one scan more than the one before."""
    for projection in POST.projections:
        async with stores(of_post, projection) as world:
            await world.table().apply([each for n in range(8) for each in parcel(n)])
            await world.elastic.client.indices.refresh(index=projection.alias)
    async with serving(create_app(of_post)) as client:
        yield client


async def page(client: Client, name: str, **query: Any) -> dict[str, Any]:
    async with client.get(f"/projections/{name}", params=query) as answer:
        assert answer.status == 200, await answer.text()
        document: dict[str, Any] = await answer.json()
        return document


async def ids(client: Client, name: str, **query: Any) -> list[str]:
    found = await page(client, name, **query)
    assert not found["has_more"]
    return [each["id"] for each in found["data"]]


async def walk(client: Client, name: str, **query: Any) -> list[dict[str, Any]]:
    """All the pages, one after the other."""
    seen: list[dict[str, Any]] = []
    after: dict[str, Any] = {}
    while True:
        found = await page(client, name, **query, **after)
        seen += found["data"]
        if not found["has_more"]:
            return seen
        after = {"starting_after": found["next"]}


async def test_pages_follow_each_other_in_any_order(post: Client) -> None:
    for field, direction, limit in itertools.product(("id", "at", "scans"), ("", "-"), (1, 3, 8)):
        sort = direction + field
        seen = await walk(post, "places", sort=sort, limit=limit)
        expected = sorted(seen, key=lambda each: each["id"])
        expected.sort(key=lambda each: each[field], reverse=direction == "-")
        assert seen == expected, (sort, limit)
        assert {each["id"] for each in seen} == {f"parcel-{n}" for n in range(8)}
        assert all(each.keys() == POST.projections[0].fields for each in seen)


async def test_search_is_of_whole_keywords_and_words_of_texts(post: Client) -> None:
    assert await ids(post, "places", search="Lisboa") == ["parcel-1", "parcel-5"]
    assert await ids(post, "places", search="flores 5") == ["parcel-5"]
    assert await ids(post, "places", search="parcel-3") == ["parcel-3"]
    assert await ids(post, "places", search="lis") == []
    assert await ids(post, "scans", search="parcel-1") == ["parcel-1-1", "parcel-1-2"]


async def test_one_document(post: Client) -> None:
    async with post.get("/projections/places/parcel-3") as answer:
        found = await answer.json()
        assert (answer.status, answer.headers["ETag"]) == (200, '"4"')
    assert (found["id"], found["scans"], found["version"]) == ("parcel-3", 3, 4)
    async with post.get("/projections/places/parcel-3?min_version=4") as answer:
        assert await answer.json() == found
    async with post.get("/projections/places/parcel-3?min_version=5&timeout=0") as answer:
        assert await answer.json() == {**found, "stale": True}
    async with post.get("/projections/scans/parcel-3-2") as answer:
        assert (await answer.json())["at"] == "Porto"
    for name in ("parcel-99", "parcel-99?min_version=1&timeout=0", "x" * 600):
        async with post.get(f"/projections/places/{name}") as answer:
            await problem(answer, 404, "document-not-found")


async def test_what_was_shown_is_not_taken_back(
    post: Client, of_post: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another copy of a shard answers, which has an older document."""

    async def head(_: EventStore, __: str) -> int:
        return 4

    monkeypatch.setattr(EventStore, "head", head)
    monkeypatch.setattr(monotonic, "PATIENCE", 0.0)
    assert "parcel-3" in await ids(post, "places")
    async with post.get("/projections/places/parcel-3") as answer:
        found = await answer.json()
        assert found["version"] == 4
    async with stores(of_post, POST.projections[0]) as world:
        await world.hand.put("parcel-3", {**found, "version": 3})
        await world.elastic.client.indices.refresh(index="post-places")
    for path in ("/projections/places", "/projections/places/parcel-3"):
        async with post.get(path) as answer:
            await problem(answer, 503, "projection-unavailable")


async def test_what_can_t_be_asked(post: Client) -> None:
    async with post.get("/projections/balance") as answer:
        await problem(answer, 404, "projection-not-found")
    for wrong in ("sort=to", "sort=nothing", "sort=-", "limit=0", "search=", "starting_after=x"):
        async with post.get(f"/projections/places?{wrong}") as answer:
            await problem(answer, 400, "invalid-input")
    place = await page(post, "places", limit=1)
    async with post.get(f"/projections/scans?starting_after={place['next']}") as answer:
        await problem(answer, 400, "invalid-input")


async def test_another_application_has_no_accounts(post: Client) -> None:
    for path in ("/", "/01J00000000000000000000000", "/01J00000000000000000000000/statement"):
        async with post.get(path) as answer:
            await problem(answer, 404, "not-found")


async def test_another_application_is_told_of_by_its_name_without_accounts(post: Client) -> None:
    async with post.get("/ui") as answer:
        page = await answer.text()
    assert "<title>Post</title>" in page
    assert "Bank" not in page
    assert "Accounts" not in page
    assert 'data-thing="aggregate"' in page
    html = {"Accept": "text/html"}
    async with post.get("/problems", headers=html) as answer:
        problems = (await answer.text()).lower()
    assert "document-not-found" in problems
    assert "account" not in problems
    assert "the bank" not in problems
    async with post.get("/problems/key-required", headers=html) as answer:
        assert "whoever runs the application makes keys with" in await answer.text()
    async with post.get("/problems/insufficient-funds") as answer:
        await problem(answer, 404, "not-found")
    async with post.get("/openapi.json") as answer:
        assert (await answer.json())["info"]["title"] == "Post: the balances service"


async def test_the_bank_s_projections(settings: Settings, store: EventStore) -> None:
    histories = accounts(3)
    for projection in (BALANCE, STATEMENT):
        async with stores(settings, projection) as world:
            await world.table().apply([each for history in histories for each in history])
            await world.elastic.client.indices.refresh(index=projection.alias)
    both = settings.model_copy(update={"projections": "balance statement"})
    async with serving(create_app(both)) as client:
        account = histories[0][0]["account_id"]
        async with client.get(f"/projections/balance/{account}") as answer:
            shown = await answer.json()
        assert stored(shown) == BALANCE.fold_all(histories[0])
        assert "owner_plain" not in shown
        by_owner = await page(client, "balance", sort="owner")
        assert [each["owner"] for each in by_owner["data"]] == sorted(
            each["owner"] for each in by_owner["data"]
        )
        for owner in ("ADA", "ádà"):
            found = await page(client, "balance", search=owner)
            assert len(found["data"]) == len(by_owner["data"]), owner
        await problem(
            await client.get("/projections/balance?sort=owner_plain"), 400, "invalid-input"
        )
        found = await page(client, "statement", search=account, sort="version")
        assert [each["version"] for each in found["data"]] == [1, 2, 3]
