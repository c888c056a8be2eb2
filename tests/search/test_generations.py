"""Elasticsearch: generations behind aliases, bulks that never give up, and pages for readers."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from operator import itemgetter
from typing import Any

import aiohttp
import pytest

from api.balances.balance_reader import BalanceReader
from api.http.cursors import UnknownCursor
from pipeline.banking.balance import BALANCE
from pipeline.banking.statement import STATEMENT
from pipeline.embedded.servers import EmbeddedServers
from pipeline.model.plain import plain
from pipeline.search import (
    ConditionalWrite,
    Elastic,
    Generation,
    GenerationGone,
    Generations,
    ProjectionUnavailable,
    Stamp,
    Write,
)
from pipeline.search.catalog import CatalogEntry
from pipeline.support.settings import Settings
from tests.bank import stored
from tests.harness import eventually

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
async def elastic(settings: Settings) -> AsyncIterator[Elastic]:
    elastic = Elastic(settings.elasticsearch_url)
    yield elastic
    await elastic.close()


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    """Elasticsearch as a person with curl has it."""
    async with aiohttp.ClientSession(settings.elasticsearch_url) as session:
        yield session


def document(account_id: str, **changes: Any) -> Any:
    """As workers write it."""
    return stored(shown(account_id, **changes))


def shown(account_id: str, **changes: Any) -> dict[str, Any]:
    """As readers are shown it."""
    return {
        "id": account_id,
        "owner": "Ada",
        "balance": 1,
        "status": "open",
        "version": 1,
        "slot": 0,
        "event_id": "e",
        "updated_at": "2026-01-02T03:04:05.678000Z",
        **changes,
    }


async def indexes(http: aiohttp.ClientSession) -> dict[str, set[str]]:
    async with http.get("/_alias") as answer:
        found = await answer.json()
    return {
        name: set(about["aliases"]) for name, about in found.items() if name.startswith("balance")
    }


# -------------------------------------------------------------------- generations


async def test_the_first_generation_is_made_with_its_aliases(
    elastic: Elastic, http: aiohttp.ClientSession
) -> None:
    generations = Generations(elastic, BALANCE)
    assert await generations.live() is None
    generation = await generations.ensure_live()
    assert (generation.number, generation.index, generation.alias) == (1, "balance-1", "balance-g1")
    assert await generations.live() == generation
    assert await indexes(http) == {"balance-1": {"balance", "balance-g1"}}
    async with http.put("/balance-1/_doc/x", json={"unknown": 1}) as answer:
        assert answer.status == 400, "the mapping is strict"


async def test_workers_that_start_together_make_one_generation(
    settings: Settings, http: aiohttp.ClientSession
) -> None:
    clients = [Elastic(settings.elasticsearch_url) for _ in range(4)]
    found = await asyncio.gather(*(Generations(each, BALANCE).ensure_live() for each in clients))
    assert len(set(found)) == 1
    assert set(await indexes(http)) == {"balance-1"}
    await asyncio.gather(*(each.close() for each in clients))


async def test_what_is_asked_at_the_same_time_is_one_request(
    elastic: Elastic, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each has the answer that it would get alone."""
    each = [Generations(elastic, projection) for projection in (BALANCE, STATEMENT)]
    for generations in each:
        await generations.ensure_live()
    async with http.put("/other", json={"aliases": {"balance-g7": {}}}) as answer:
        assert answer.status == 200
    alone = [await generations._catalog() for generations in each]
    perform, requests = elastic.client.perform_request, list[str]()

    async def counted(method: str, path: str, **options: Any) -> Any:
        requests.append(path)
        return await perform(method, path, **options)

    monkeypatch.setattr(elastic.client, "perform_request", counted)
    together = await asyncio.gather(*(generations._catalog() for generations in each))
    assert len(requests) == 1
    assert together == alone
    assert [{one.name for one in found} for found in together] == [
        {"balance-1", "other"},
        {"statement-1"},
    ]


async def test_a_generation_made_anew_is_another_one(
    elastic: Elastic, http: aiohttp.ClientSession
) -> None:
    first = await Generations(elastic, BALANCE).ensure_live()
    async with http.delete("/balance-1"):
        pass
    second = await Generations(elastic, BALANCE).ensure_live()
    assert second.number == first.number
    assert second.uuid != first.uuid


async def test_a_vanished_index_is_made_anew_only_after_the_grace(
    elastic: Elastic, http: aiohttp.ClientSession
) -> None:
    generations = Generations(elastic, BALANCE, grace_seconds=1.5)
    await generations.ensure_live()
    async with http.delete("/balance-1"):
        pass
    again = asyncio.create_task(generations.ensure_live())
    await asyncio.sleep(0.7)
    assert not again.done()
    assert await indexes(http) == {}
    assert (await again).index == "balance-1"


@pytest.mark.parametrize("running", [True, False])
async def test_an_index_made_by_hand_is_adopted(
    elastic: Elastic, http: aiohttp.ClientSession, running: bool
) -> None:
    generations = Generations(elastic, BALANCE, grace_seconds=600)
    if running:
        await generations.ensure_live()
        async with http.delete("/balance-1"):
            pass
    again = asyncio.create_task(generations.ensure_live()) if running else None
    mapping = {"mappings": {"properties": {"balance": {"type": "long"}}}}
    async with http.put("/balance", json=mapping) as answer:
        assert answer.status == 200
    generation = await (again or generations.ensure_live())
    assert await indexes(http) == {generation.index: {"balance", generation.alias}}


async def test_an_index_that_a_curl_made_of_a_document_is_adopted_by_all_workers(
    settings: Settings, http: aiohttp.ClientSession
) -> None:
    async with http.put("/balance/_doc/1?refresh=true", json={"balance": 1}) as answer:
        assert answer.status == 201
    clients = [Elastic(settings.elasticsearch_url) for _ in range(3)]
    found = await asyncio.gather(*(Generations(each, BALANCE).ensure_live() for each in clients))
    assert len(set(found)) == 1
    assert len(await indexes(http)) == 1
    await asyncio.gather(*(each.close() for each in clients))


async def test_who_was_slower_to_adopt_takes_away_what_it_made(
    elastic: Elastic, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with http.put("/balance", json={}) as answer:
        assert answer.status == 200
    slow, made, adopted = Generations(elastic, BALANCE), asyncio.Event(), asyncio.Event()
    adopt = slow._adopt

    async def late(foreign: list[CatalogEntry], generation: Generation) -> bool:
        made.set()
        await adopted.wait()
        return await adopt(foreign, generation)

    monkeypatch.setattr(slow, "_adopt", late)
    beaten = asyncio.create_task(slow.ensure_live())
    await made.wait()
    assert "balance-1" in await indexes(http)
    live = await Generations(elastic, BALANCE).ensure_live()
    adopted.set()
    assert await beaten == live
    assert await indexes(http) == {live.index: {"balance", live.alias}}


async def test_a_lost_alias_of_its_own_is_given_back(
    elastic: Elastic, http: aiohttp.ClientSession
) -> None:
    generations = Generations(elastic, BALANCE)
    generation = await generations.ensure_live()
    async with http.delete("/balance-1/_alias/balance-g1") as answer:
        assert answer.status == 200
    assert await generations.ensure_live() == generation
    assert (await indexes(http))["balance-1"] == {"balance", "balance-g1"}


async def test_only_the_newest_of_two_live_ones_stays_live(
    elastic: Elastic, http: aiohttp.ClientSession
) -> None:
    generations = Generations(elastic, BALANCE)
    await generations.create(1, "balance")
    await generations.create(2, "balance")
    assert (await generations.ensure_live()).number == 2
    assert await indexes(http) == {
        "balance-1": {"balance-g1"},
        "balance-2": {"balance", "balance-g2"},
    }


async def test_the_next_generation_has_a_number_above_all(elastic: Elastic) -> None:
    generations = Generations(elastic, BALANCE)
    await generations.create(7)
    assert (await generations.ensure_live()).number == 8


# -------------------------------------------------------------------- writing


async def made(elastic: Elastic) -> Generation:
    return await Generations(elastic, BALANCE).ensure_live()


async def test_a_bulk_tells_conflicts_and_rejected_documents(elastic: Elastic) -> None:
    alias = (await made(elastic)).alias
    assert await elastic.bulk(alias, [Write("a", 5, document("a"))]) == ([], {})
    outcome = await elastic.bulk(
        alias,
        [
            Write("b", 1, document("b")),
            Write("a", 5, document("a", balance=2)),
            Write("c", 1, {**document("c"), "unknown": 1}),
            Write("a", 6, document("a", balance=3)),
        ],
    )
    assert outcome.conflicts == [1]
    assert set(outcome.rejected) == {2}
    assert "unknown" in outcome.rejected[2] or "strict" in outcome.rejected[2]
    found = await elastic.mget(alias, ["a", "b", "c"])
    assert {key: (each.version, each.source["balance"]) for key, each in found.items()} == {
        "a": (6, 3),
        "b": (1, 1),
    }


async def test_a_deleted_generation_never_comes_back(
    elastic: Elastic, http: aiohttp.ClientSession
) -> None:
    alias = (await made(elastic)).alias
    async with http.delete("/balance-1"):
        pass
    with pytest.raises(GenerationGone):
        await elastic.bulk(alias, [Write("a", 1, document("a"))])
    with pytest.raises(GenerationGone):
        await elastic.mget(alias, ["a"])
    with pytest.raises(GenerationGone):
        await elastic.compare_and_set(alias, [ConditionalWrite("a", None, document("a"))])
    assert await indexes(http) == {}


async def test_compare_and_set_writes_onto_the_write_it_names_only(elastic: Elastic) -> None:
    alias = (await made(elastic)).alias
    (first,) = await elastic.compare_and_set(alias, [ConditionalWrite("a", None, document("a"))])
    assert first is not None
    again = ConditionalWrite("a", None, document("a"))
    second, refused = await elastic.compare_and_set(
        alias, [ConditionalWrite("a", first, document("a", balance=2)), again]
    )
    assert refused is None
    assert second is not None
    (stale,) = await elastic.compare_and_set(
        alias, [ConditionalWrite("a", first, document("a", balance=3))]
    )
    (absent,) = await elastic.compare_and_set(
        alias, [ConditionalWrite("b", Stamp(1, 1), document("b"))]
    )
    assert stale is None
    assert absent is None
    found = (await elastic.mget(alias, ["a"]))["a"]
    assert (found.stamp, found.source["balance"]) == (second, 2)


async def test_a_bulk_outlasts_a_server_that_is_down(own_servers: EmbeddedServers) -> None:
    server = own_servers.servers["elasticsearch"]
    elastic = Elastic(server.url)
    alias = (await made(elastic)).alias
    boots = await elastic.boots()
    await asyncio.sleep(2.5)  # the embedded one saves a moment later
    await server.kill(9)
    await server.wait_dead()
    writing = asyncio.create_task(elastic.bulk(alias, [Write("a", 1, document("a"))]))
    await eventually(lambda: elastic.retries > 0)
    assert not writing.done()
    await server.start()
    assert await writing == ([], {})
    assert await elastic.boots() != boots, "a restart shows"
    await elastic.close()


# -------------------------------------------------------------------- reading


@pytest.fixture
async def index(settings: Settings) -> AsyncIterator[BalanceReader]:
    index = BalanceReader(settings.elasticsearch_url)
    yield index
    await index.close()


async def test_without_an_index_there_is_no_answer(index: BalanceReader) -> None:
    with pytest.raises(ProjectionUnavailable):
        await index.get("a")
    with pytest.raises(ProjectionUnavailable):
        await index.page()
    with pytest.raises(ProjectionUnavailable):
        await index.ping()


async def test_without_a_server_there_is_no_answer() -> None:
    index = BalanceReader("http://127.0.0.1:9")
    with pytest.raises(ProjectionUnavailable):
        await index.get("a")
    with pytest.raises(ProjectionUnavailable):
        await index.ping()
    await index.close()


async def test_a_document_is_read_as_soon_as_it_is_written(
    elastic: Elastic, index: BalanceReader
) -> None:
    alias = (await made(elastic)).alias
    await index.ping()
    assert await index.get("a") is None
    await elastic.bulk(alias, [Write("a", 1, document("a"))])
    assert await index.get("a") == shown("a")


async def filled(elastic: Elastic) -> list[dict[str, Any]]:
    owners = ["Ada", "ada", "Bob", "Ada Lovelace", "Ada", "Zoë", "Bob", "x" * 200]
    all_of_them = [
        shown(
            f"id-{i}",
            owner=owner,
            balance=i % 3,
            version=i + 1,
            updated_at=f"2026-01-02T03:04:0{i % 4}.{i:03d}000Z",
        )
        for i, owner in enumerate(owners)
    ]
    generation = await made(elastic)
    writes = [Write(each["id"], each["version"], stored(each)) for each in all_of_them]
    await elastic.bulk(generation.alias, writes)
    await elastic.client.indices.refresh(index=generation.index)
    return all_of_them


async def test_pages_hold_everything_once_in_order(elastic: Elastic, index: BalanceReader) -> None:
    documents = await filled(elastic)
    by_id = sorted(documents, key=lambda d: d["id"])
    sorts: dict[str, Callable[[Any], Any]] = {
        each: itemgetter(each) for each in ("id", "balance", "status", "version", "updated_at")
    }
    sorts["owner"] = lambda each: (plain(each["owner"]), each["owner"])
    for (sort, key), descending in itertools.product(sorts.items(), (False, True)):
        seen, after = await index.page(sort=sort, descending=descending, limit=3)
        while after:
            page, after = await index.page(sort=sort, descending=descending, limit=3, after=after)
            seen += page
        assert seen == sorted(by_id, key=key, reverse=descending), (sort, descending)


async def test_the_owner_filter_is_exact(elastic: Elastic, index: BalanceReader) -> None:
    documents = await filled(elastic)
    for owner in ("Ada", "Zoë", "x" * 200):
        page, more = await index.page(owner=owner, limit=100)
        assert page == [d for d in documents if d["owner"] == owner]
        assert not more
    assert await index.page(owner="lovelace") == ([], None)


async def test_a_page_after_nobody_is_refused(elastic: Elastic, index: BalanceReader) -> None:
    await filled(elastic)
    with pytest.raises(UnknownCursor):
        await index.page(after="nobody")
    with pytest.raises(ValueError, match="colour"):
        await index.page(sort="colour")
