"""Walks through pages while accounts move: they end, and show each account that stays where it is.
Cursors that are none are refused by name."""

import copy
import itertools
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from api.balances.app import create_app
from api.balances.balance_reader import BalanceReader
from pipeline.banking.balance import BALANCE
from pipeline.search import Elastic, Generation, Generations, ProjectionUnavailable, Write
from pipeline.support.settings import Settings
from tests.bank import stored
from tests.harness import eventually
from tests.proxy import Answering, HttpProxy
from tests.services import Client, problem, serving

pytestmark = pytest.mark.elasticsearch

DEER = "🦌"
"""Two UTF-16 units, one character."""
OWNERS: list[str] = [
    DEER * 129,
    DEER * 200,
    "a" * 200,
    "字" * 200,
    "x" * 401,
    DEER * 201,
    *("Ada", "Bob", "Ada", "Zoë", "Ömer", "Ada"),
]
LIMIT = 3


def account_id(n: int) -> str:
    return f"01JD{n:022}"


@dataclass
class Accounts:
    """Documents in a live generation, and the service that shows them."""

    elastic: Elastic
    generation: Generation
    client: Client
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    clock: int = 0

    async def write(self, *documents: dict[str, Any]) -> None:
        for each in documents:
            self.documents[each["id"]] = each
        writes = [Write(each["id"], each.get("version", 1), stored(each)) for each in documents]
        assert await self.elastic.bulk(self.generation.alias, writes) == ([], {})
        await self.elastic.client.indices.refresh(index=self.generation.index)

    async def deposit(self, account: str) -> None:
        """The account moves in most orders."""
        before = self.documents[account]
        self.clock += 1
        await self.write(
            {
                **before,
                "version": before.get("version", 1) + 1,
                "balance": before.get("balance", 0) + 1000,
                "owner": f"Ada {self.clock}",
                "updated_at": f"2027-01-01T00:00:{self.clock:02}.000000Z",
            }
        )

    async def page(self, **query: Any) -> dict[str, Any]:
        async with self.client.get("/", params=query) as answer:
            assert answer.status == 200, await answer.text()
            page: dict[str, Any] = await answer.json()
            assert page["has_more"] == ("next" in page)
            return page


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Accounts]:
    elastic = Elastic(settings.elasticsearch_url)
    generation = await Generations(elastic, BALANCE).ensure_live()
    async with serving(create_app(settings)) as client:
        accounts = Accounts(elastic, generation, client)
        await accounts.write(
            *(
                {
                    "id": account_id(n),
                    "owner": owner,
                    "balance": n % 4,
                    "status": "open",
                    "version": n + 1,
                    "slot": 0,
                    "event_id": f"01JE{n:022}",
                    "updated_at": f"2026-11-23T08:00:{n % 5:02}.123456Z",
                }
                for n, owner in enumerate(OWNERS)
            )
        )
        # What hands made of some: they lack all that pages are sorted by.
        await accounts.write(*({"id": account_id(90 + n)} for n in range(4)))
        yield accounts
    await elastic.close()


async def test_a_walk_shows_everything_once(bank: Accounts) -> None:
    names = ("owner", "balance", "updated_at", "id")
    for name, direction, limit in itertools.product(names, ("", "-"), (1, 2, 3, 7)):
        query: dict[str, Any] = {"sort": direction + name, "limit": limit}
        seen: list[str] = []
        page = await bank.page(**query)
        seen += [each["id"] for each in page["data"]]
        while "next" in page:
            assert len(seen) <= len(bank.documents), f"it loops: {query}"
            page = await bank.page(**query, starting_after=page["next"])
            seen += [each["id"] for each in page["data"]]
        assert sorted(seen) == sorted(bank.documents), query


@pytest.mark.parametrize("field", ["owner", "balance", "updated_at"])
@pytest.mark.parametrize("direction", ["", "-"])
async def test_a_walk_ends_while_accounts_move(bank: Accounts, field: str, direction: str) -> None:
    seen: list[str] = []
    moved: set[str] = set()
    query: dict[str, Any] = {"sort": direction + field, "limit": LIMIT}
    page = await bank.page(**query)
    turned = 1
    while True:
        seen += [each["id"] for each in page["data"]]
        if "next" not in page:
            break
        assert turned < 2 * len(bank.documents), "it loops"
        last = page["data"][-1]["id"]
        moved.add(last)
        await bank.deposit(last)
        page = await bank.page(**query, starting_after=page["next"])
        turned += 1
    assert set(seen) == set(bank.documents)
    still = [each for each in seen if each not in moved]
    assert sorted(still) == sorted(bank.documents.keys() - moved)


async def test_a_name_of_200_characters_is_found(bank: Accounts) -> None:
    for owner in OWNERS[:4]:
        page = await bank.page(owner=owner)
        assert [each["owner"] for each in page["data"]] == [owner]


async def test_an_id_still_goes_as_a_cursor(bank: Accounts) -> None:
    """Also that of a document whose place has no value."""
    seen: list[str] = []
    for sort in ("owner", "-balance", "updated_at"):
        seen.clear()
        page = await bank.page(sort=sort, limit=2)
        while True:
            seen += [each["id"] for each in page["data"]]
            assert len(seen) <= len(bank.documents), "it loops"
            if not page["has_more"]:
                break
            page = await bank.page(sort=sort, limit=2, starting_after=seen[-1])
        assert sorted(seen) == sorted(bank.documents)


async def test_a_cursor_that_is_none_is_refused(bank: Accounts) -> None:
    cursor = (await bank.page(sort="balance", limit=2))["next"]
    middle = len(cursor) // 2
    changed = cursor[:middle] + ("A" if cursor[middle] != "A" else "B") + cursor[middle + 1 :]
    wrong = [cursor[:-1], cursor[4:], changed, f"{cursor}AAAA", "AAAA", "=", "🦌", "x" * 7000]
    queries = [{"sort": "balance", "starting_after": each} for each in wrong]
    queries += [{"sort": each, "starting_after": cursor} for each in ("-balance", "owner", "id")]
    for query in queries:
        async with bank.client.get("/", params=query) as answer:
            document = await problem(answer, 400, "invalid-input")
        assert [each["parameter"] for each in document["errors"]] == ["starting_after"]


async def test_the_mapping_of_an_older_release_gets_the_present_limits(settings: Settings) -> None:
    elastic = Elastic(settings.elasticsearch_url)
    older: Any = copy.deepcopy(BALANCE.mapping)
    older["properties"]["owner"]["fields"]["keyword"]["ignore_above"] = 256
    await elastic.make_index("balance-1", {"balance": {}, "balance-g1": {}}, older, {})
    generation = await Generations(elastic, BALANCE).ensure_live()
    assert generation.index == "balance-1"
    found = (await elastic.client.indices.get_mapping(index="balance-1")).body
    owner = found["balance-1"]["mappings"]["properties"]["owner"]
    assert owner["fields"]["keyword"]["ignore_above"] == 400
    await elastic.close()


async def test_an_index_of_an_older_release_is_searched_and_walked(settings: Settings) -> None:
    """It has no plain forms until workers have rebuilt it, and a walk goes on over the swap."""
    elastic = Elastic(settings.elasticsearch_url)
    names = ["Élise", "Emil", "elf", "Weiß", "Zoë"]
    await _indexed_twice(elastic, names)
    async with serving(create_app(settings), ready=False) as client:
        bank = Accounts(elastic, Generation(1, "", BALANCE), client)

        async def found(**query: Any) -> list[str]:
            return [each["owner"] for each in (await bank.page(**query))["data"]]

        assert await found(search="éli") == ["Élise"]
        assert await found(search="elise") == []
        assert await found(search="0004") == ["Zoë"]
        first = await bank.page(limit=2)
        await _swap(elastic)
        walked = [*first["data"]]
        rest = await bank.page(limit=2, starting_after=first["next"])
        walked += rest["data"]
        walked += (await bank.page(limit=2, starting_after=rest["next"]))["data"]
        assert [each["owner"] for each in walked] == sorted(names)
        in_order = ["elf", "Élise", "Emil", "Weiß", "Zoë"]
        await eventually(lambda: _is(found(), in_order))
        assert await found(search="elise") == ["Élise"]
        assert await found(search="WEISS") == ["Weiß"]
        assert await found(sort="-owner") == in_order[::-1]
        second = await bank.page(limit=2, starting_after=(await bank.page(limit=2))["next"])
        assert [each["owner"] for each in second["data"]] == in_order[2:4]
    await elastic.close()


async def test_a_cursor_of_a_process_that_saw_the_new_index_first(settings: Settings) -> None:
    elastic, late = Elastic(settings.elasticsearch_url), BalanceReader(settings.elasticsearch)
    await _indexed_twice(elastic, ["elf", "Élise", "Emil"])
    assert len((await late.page())[0]) == 3
    await _swap(elastic)
    early = BalanceReader(settings.elasticsearch)
    _, cursor = await early.page(limit=1)
    rest, _ = await late.page(after=cursor)
    assert [each["owner"] for each in rest] == ["Élise", "Emil"]
    for each in (elastic, late, early):
        await each.close()


async def test_a_mapping_that_can_t_be_read_fails_no_page(settings: Settings) -> None:
    elastic = Elastic(settings.elasticsearch_url)
    await _indexed_twice(elastic, ["Élise"])
    await _swap(elastic)
    refusal = Answering(403, match=lambda request: "/_mapping/" in request.target)
    async with HttpProxy(settings.elasticsearch_url) as proxy:
        reader = BalanceReader(proxy.url)
        assert await reader.has_plain()
        proxy.faults.append(refusal)
        assert await reader.has_plain(now=True)
        assert refusal.count
        assert len((await reader.page(search="elise"))[0]) == 1
        other = BalanceReader(proxy.url)
        with pytest.raises(ProjectionUnavailable):
            await other.page()
        await reader.close()
        await other.close()
    await elastic.close()


async def test_a_word_without_a_digit_is_no_part_of_an_id(settings: Settings) -> None:
    elastic, reader = Elastic(settings.elasticsearch_url), BalanceReader(settings.elasticsearch)
    await _indexed_twice(elastic, ["Anna", "Eva"])
    other = {"id": f"01JDANNABARBARA{0:011}", "owner": "Bob"}
    await elastic.bulk("balance-g1", [Write(other["id"], 1, other)])
    await elastic.client.indices.refresh(index="balance-1")

    async def found(search: str) -> list[str]:
        return [each["owner"] for each in (await reader.page(search=search))[0]]

    assert await found("anna") == ["Anna"]
    assert await found("danna") == []
    assert await found("1jda") == ["Bob"]
    assert await found("annabarb") == ["Bob"]
    await reader.close()
    await elastic.close()


async def _indexed_twice(elastic: Elastic, owners: Iterable[str]) -> None:
    """In an index that an older release made, which is live, and in one of this release."""
    older: Any = copy.deepcopy(BALANCE.mapping)
    del older["properties"]["owner_plain"]
    older["_meta"]["projection"] = BALANCE.version - 1
    await elastic.make_index("balance-1", {"balance": {}, "balance-g1": {}}, older, {})
    await elastic.make_index("balance-2", {"balance-g2": {}}, BALANCE.mapping, {})
    documents = [{"id": account_id(n), "owner": name} for n, name in enumerate(owners)]
    await elastic.bulk("balance-g1", [Write(each["id"], 1, each) for each in documents])
    await elastic.bulk("balance-g2", [Write(each["id"], 1, stored(each)) for each in documents])
    await elastic.client.indices.refresh(index="balance-1,balance-2")


async def _swap(elastic: Elastic) -> None:
    await elastic.client.indices.update_aliases(
        actions=[
            {"remove": {"index": "balance-1", "alias": "balance"}},
            {"add": {"index": "balance-2", "alias": "balance"}},
        ]
    )


async def _is(read: Awaitable[list[str]], wanted: list[str]) -> bool:
    return await read == wanted
