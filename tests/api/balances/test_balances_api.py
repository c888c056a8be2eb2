"""The balance service over HTTP on a real projection: documents, pages, and what is no answer."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import itemgetter
from typing import Any

import pytest
from aiohttp import ClientSession

from api.balances.app import create_app
from pipeline.banking.balance import BALANCE
from pipeline.model.plain import plain
from pipeline.search import DocumentReader, Elastic, Generation, Generations, Write
from pipeline.support.settings import Settings
from tests.bank import stored
from tests.conftest import placed
from tests.harness import Role, eventually
from tests.services import NOBODY, Client, is_ready, problem, serving

pytestmark = pytest.mark.elasticsearch

OWNERS = ["Ada", "Grace", "Ada", "Barbara", "grace", "Ada", "Ömer", "Ada Byron", "Zoë", "Grace"]


def account_id(n: int) -> str:
    return f"01JD{n:022}"


DOCUMENTS: list[dict[str, Any]] = [
    {
        "id": account_id(n),
        "owner": owner,
        "balance": n * 37 % 5,
        "status": "open",
        "version": n + 1,
        "slot": 0,
        "event_id": f"01JE{n:022}",
        "updated_at": f"2026-11-23T08:00:{n % 3:02}.000Z",
    }
    for n, owner in enumerate(OWNERS)
]


@pytest.fixture
async def elastic(settings: Settings) -> AsyncIterator[Elastic]:
    elastic = Elastic(settings.elasticsearch_url)
    yield elastic
    await elastic.close()


@pytest.fixture
async def generation(elastic: Elastic) -> Generation:
    """A live generation that holds `DOCUMENTS`, all of them visible to searches."""
    generation = await Generations(elastic, BALANCE).ensure_live()
    writes = [Write(each["id"], each["version"], stored(each)) for each in DOCUMENTS]
    outcome = await elastic.bulk(generation.alias, writes)
    assert not outcome.conflicts
    assert not outcome.rejected
    await elastic.client.indices.refresh(index=generation.index)
    return generation


@pytest.fixture
async def bank(generation: Generation, settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        yield client


async def page(client: Client, **query: Any) -> dict[str, Any]:
    async with client.get("/", params=query) as answer:
        assert answer.status == 200, await answer.text()
        document: dict[str, Any] = await answer.json()
        return document


async def walk(client: Client, **query: Any) -> list[dict[str, Any]]:
    """All the pages, one after the other, as a client would turn them."""
    found: list[dict[str, Any]] = []
    while True:
        at = {"starting_after": found[-1]["id"]} if found else {}
        part = await page(client, **query, **at)
        assert 0 < len(part["data"]) <= int(query.get("limit", 20))
        found += part["data"]
        if not part["has_more"]:
            return found


def in_order(sort: str) -> list[dict[str, Any]]:
    """The documents as `?sort=` should give them: equal ones by id, for `DOCUMENTS` are so."""
    field = sort.removeprefix("-")
    key = (
        (lambda each: (plain(each["owner"]), each["owner"]))
        if field == "owner"
        else itemgetter(field)
    )
    return sorted(DOCUMENTS, key=key, reverse=sort.startswith("-"))


async def test_a_document(bank: Client) -> None:
    async with bank.get(f"/{account_id(3)}") as answer:
        assert answer.status == 200
        assert answer.headers["ETag"] == '"4"'
        assert answer.content_type == "application/json"
        assert await answer.json() == DOCUMENTS[3]


async def test_clients_that_ask_for_one_page_at_once_share_its_search(
    bank: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = 0
    search = DocumentReader.search

    async def counted(*given: Any, **named: Any) -> Any:
        nonlocal searched
        searched += 1
        await asyncio.sleep(0.1)
        return await search(*given, **named)

    monkeypatch.setattr(DocumentReader, "search", counted)
    pages = await asyncio.gather(*(page(bank, limit=limit) for limit in (3, 4) for _ in range(20)))
    assert pages == [pages[0]] * 20 + [pages[20]] * 20
    assert [len(each["data"]) for each in (pages[0], pages[20])] == [3, 4]
    assert searched < 20


async def test_all_documents_come_in_order_of_owner(bank: Client) -> None:
    assert await page(bank) == {"data": in_order("owner"), "has_more": False}


async def test_pages_hold_each_document_once_in_order(bank: Client) -> None:
    fields = ("owner", "balance", "updated_at", "id")
    for field, direction, limit in itertools.product(fields, ("", "-"), (1, 3, 10, 100)):
        sort = direction + field
        assert await walk(bank, sort=sort, limit=str(limit)) == in_order(sort), (sort, limit)


async def test_owners_match_exactly(bank: Client) -> None:
    ada = [document for document in DOCUMENTS if document["owner"] == "Ada"]
    assert await walk(bank, owner="Ada", limit="2") == ada
    assert await page(bank, owner="ada") == {"data": [], "has_more": False}
    assert await page(bank, owner="*") == {"data": [], "has_more": False}
    assert [each["owner"] for each in (await page(bank, owner="Ömer"))["data"]] == ["Ömer"]


@pytest.mark.parametrize("query", ["Zo\u00eb \u00c5ngstr\u00f6m", "Zoe\u0308 A\u030angstro\u0308m"])
async def test_either_form_of_a_name_finds_both(
    bank: Client, generation: Generation, elastic: Elastic, query: str
) -> None:
    """Names are composed when they are written; events of earlier releases have either form."""
    owners = ["Zo\u00eb \u00c5ngstr\u00f6m", "Zoe\u0308 A\u030angstro\u0308m"]
    documents = [
        {**DOCUMENTS[0], "id": account_id(50 + n), "owner": owner} for n, owner in enumerate(owners)
    ]
    await elastic.bulk(generation.alias, [Write(each["id"], 1, stored(each)) for each in documents])
    await elastic.client.indices.refresh(index=generation.index)
    for asked in ({"owner": query}, {"search": query}, {"search": query[:-3]}):
        found = [each["id"] for each in (await page(bank, sort="id", **asked))["data"]]
        assert found == [each["id"] for each in documents], asked


async def test_no_controls_are_searched_for(bank: Client) -> None:
    for text in ("a\x00", "\x1b[2J", "\u202eadA", "\uffff"):
        for name in ("owner", "search"):
            await problem(await bank.get("/", params={name: text}), 400, "invalid-input")


async def test_a_search_finds_words_of_names_and_ids(bank: Client) -> None:
    for search, owners in (
        ("ada", ["Ada", "Ada", "Ada", "Ada Byron"]),
        ("AD", ["Ada", "Ada", "Ada", "Ada Byron"]),
        ("byron ada", ["Ada Byron"]),
        ("ada by", ["Ada Byron"]),
        ("ad byron", []),
        ("g", ["Grace", "Grace", "grace"]),
        ("öm", ["Ömer"]),
        ("omer", ["Ömer"]),
        ("zoe", ["Zoë"]),
        ("ZOÉ", ["Zoë"]),
        ("race", []),
        ("*", []),
        ("  ", []),
        (account_id(6), ["Ömer"]),
        (account_id(6).lower(), ["Ömer"]),
        ("0006", ["Ömer"]),
        (account_id(6)[5:].lower(), ["Ömer"]),
        ("006", []),
        (account_id(77)[8:], []),
        (account_id(77), []),
    ):
        found = await page(bank, search=search)
        assert [each["owner"] for each in found["data"]] == owners, search
        if owners:
            assert await walk(bank, search=search, limit="1") == found["data"], search
        assert (await page(bank, search=search, owner="Ada"))["data"] == [
            each for each in found["data"] if each["owner"] == "Ada"
        ], search


async def test_a_wrong_parameter_is_named(bank: Client) -> None:
    for query, parameter in (
        ("search=", "search"),
        (f"search={'a' * 201}", "search"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.0", "limit"),
        ("limit=1e1", "limit"),
        ("limit=%201", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=1&limit=2", "limit"),
        ("sort=", "sort"),
        ("sort=version", "sort"),
        ("sort=--owner", "sort"),
        ("sort=owner.keyword", "sort"),
        ("starting_after=", "starting_after"),
        ("starting_after=x", "starting_after"),
        (f"starting_after={NOBODY.lower()}", "starting_after"),
        ("starting_after=01JD9999999999999999999999", "starting_after"),
        ("owner=", "owner"),
        ("owner=" + "a" * 201, "owner"),
        ("color=red", "color"),
        ("%00=%ff", "\0"),
        ("OWNER=Ada", "OWNER"),
        ("=1", ""),
        ("=1&=2", ""),
    ):
        document = await problem(await bank.get(f"/?{query}"), 400, "invalid-input")
        assert [error["parameter"] for error in document["errors"]] == [parameter], query


async def test_what_is_not_there(bank: Client) -> None:
    document = await problem(
        await bank.get("/01JD9999999999999999999999"), 404, "account-not-found"
    )
    assert "01JD9999999999999999999999" in document["detail"]
    for path in ("/x", f"/{NOBODY.lower()}", "/ui/x", "/balance", f"/{NOBODY}/x", "/_search"):
        await problem(await bank.get(path), 404, "not-found")
    await problem(await bank.post("/"), 405, "method-not-allowed")
    await problem(await bank.delete(f"/{NOBODY}"), 405, "method-not-allowed")


async def test_a_document_that_somebody_wrote_by_hand_is_still_shown(
    bank: Client, elastic: Elastic, generation: Generation
) -> None:
    by_hand = {"owner": "Mallory", "balance": 10**6}
    await elastic.client.index(index=generation.index, id=NOBODY, document=by_hand, refresh=True)
    async with bank.get(f"/{NOBODY}") as answer:
        assert answer.status == 200
        assert "ETag" not in answer.headers
        assert await answer.json() == by_hand


async def test_without_a_projection_it_is_not_ready_and_says_so(
    settings: Settings, elastic: Elastic
) -> None:
    nowhere = placed(settings.data_dir)
    for placed_at in (settings, nowhere):  # no index there; no server there
        async with serving(create_app(placed_at), ready=False) as client:
            async with client.get("/livez") as answer:
                assert answer.status == 200
            document = await problem(await client.get("/readyz"), 503, "not-ready")
            assert document["missing"] == ["elasticsearch"]
            for path in ("/", f"/{NOBODY}", f"/?starting_after={NOBODY}"):
                answer = await client.get(path)
                await problem(answer, 503, "projection-unavailable")
                assert answer.headers["Retry-After"]
            if placed_at is settings:
                await Generations(elastic, BALANCE).ensure_live()
                await eventually(lambda: is_ready(client), message="ready")
                assert await page(client) == {"data": [], "has_more": False}


async def test_the_process_serves_and_stops(
    role: Callable[..., Awaitable[Role]], generation: Generation, settings: Settings
) -> None:
    service = await role("python", "-m", "api.balances")

    async def owners() -> list[str]:
        url = f"http://127.0.0.1:{settings.balances_port}/"
        async with ClientSession() as http, http.get(url) as answer:
            return [document["owner"] for document in (await answer.json())["data"]]

    assert await eventually(owners) == sorted(OWNERS, key=lambda each: (plain(each), each))
    assert await service.stop() == 0
    assert "Traceback" not in service.log()
