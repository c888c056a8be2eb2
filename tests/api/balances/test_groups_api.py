"""`GET /projections/owners` and below it: documents of several accounts, added up exactly."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from ulid import ULID

from api.balances.app import create_app
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import CREATED, DEPOSITED, OWNER_UPDATED
from pipeline.banking.flows import FLOWS
from pipeline.model.events import Event, new_event
from pipeline.model.projection import Projection
from pipeline.operations.checker.groups import with_groups
from pipeline.operations.checker.report import CheckFigures, Report
from pipeline.search import group_reader
from pipeline.search.group_reader import GroupReader
from pipeline.support.settings import Settings
from tests.services import Client, problem, serving
from tests.stores import Stores, stores

pytestmark = pytest.mark.elasticsearch

NAMES = ("Ada", "ada", "Ada B", "A/B & Söhne", "ß", "Ａ", "😀", "％20", "..", "a b?c#d", "{x}")
MOST = 2**53 - 1
RICH = 1030
"""Accounts with the most money that an account can have: together more than 64 bits."""


def opened(owner: str, money: int) -> Event:
    return new_event(str(ULID()), 1, CREATED, {"owner": owner, "money": money})


@pytest.fixture
def both(settings: Settings) -> Settings:
    return settings.model_copy(update={"projections": "balance pipeline.banking.flows:FLOWS"})


async def apply(world: Stores, *events: Event) -> None:
    await world.table(capacity=0).apply(list(events))
    await world.elastic.client.indices.refresh(index=world.generation.projection.alias)


class Bank:
    def __init__(self, client: Client, balances: Stores, flows: Stores) -> None:
        self.client, self.balances, self.flows = client, balances, flows
        self.events: list[Event] = []

    async def happens(self, *events: Event) -> None:
        self.events += events
        for each in (self.balances, self.flows):
            await apply(each, *events)

    async def get(self, path: str) -> dict[str, Any]:
        async with self.client.get(f"/projections/{path}") as answer:
            assert answer.status == 200, await answer.text()
            document: dict[str, Any] = await answer.json()
            return document

    async def listed(self, name: str, query: str = "limit=100") -> dict[str, tuple[int, int]]:
        """Shares and sum of each group, by its id, in the order of the pages."""
        found: list[Any] = []
        place = ""
        while True:
            page = await self.get(f"{name}?{query}{place}")
            found += page["data"]
            if not page["has_more"]:
                break
            place = f"&starting_after={page['next']}"
        assert len({each["id"] for each in found}) == len(found)
        return {each["id"]: (each["shares"], *each["sums"].values()) for each in found}


@pytest.fixture
async def bank(both: Settings) -> AsyncIterator[Bank]:
    """Each of the owners has one account more than the one before; the last is rich."""
    async with (
        stores(both, BALANCE) as balances,
        stores(both, FLOWS) as flows,
        serving(create_app(both)) as client,
    ):
        found = Bank(client, balances, flows)
        await found.happens(*(opened(n, 10 + i) for i, n in enumerate(NAMES) for _ in range(i + 1)))
        yield found


def added(events: list[Event]) -> dict[str, tuple[int, int]]:
    """By owner, of accounts that have one event each; in order of the owners."""
    found: dict[str, tuple[int, int]] = {}
    for event in events:
        shares, total = found.get(event["body"]["owner"], (0, 0))
        found[event["body"]["owner"]] = shares + 1, total + event["body"]["money"]
    return dict(sorted(found.items()))


async def judged(settings: Settings) -> list[str]:
    """What `bank verify` says of the groups."""
    report = await with_groups(settings, Report((), CheckFigures(0, 0, 0, 0, 0, 0, 0.0)))
    (verdict,) = report.verdicts
    assert verdict.number == 20
    assert verdict.holds == (not verdict.examples)
    return list(verdict.examples)


async def test_pages_have_each_group_once_and_in_order(bank: Bank) -> None:
    wanted = added(bank.events)
    for limit in (1, 3, 100):
        found = await bank.listed("owners", f"limit={limit}")
        assert (found, list(found)) == (wanted, list(wanted))
    assert await bank.listed("owners", "search=Ada") == {
        n: wanted[n] for n in ("Ada", "Ada B", "ada")
    }
    assert await bank.listed("owners", "search=b%20ada") == {"Ada B": wanted["Ada B"]}
    assert await bank.listed("owners", "prefix=Ad") == {n: wanted[n] for n in ("Ada", "Ada B")}
    assert await bank.listed("owners", "prefix=x") == {}


async def test_one_group_and_its_shares(bank: Bank) -> None:
    for name, (shares, total) in added(bank.events).items():
        if name == "..":
            continue  # no client sends that as a path
        path = f"owners/{quote(name, safe='')}"
        group = await bank.get(path)
        assert group == {"id": name, "shares": shares, "sums": {"balance": total}}
        page = await bank.get(f"{path}/shares?limit=100&sort=-balance")
        assert {each["owner"] for each in page["data"]} == {name}
        assert sum(each["balance"] for each in page["data"]) == total
        fields = BALANCE.fields - {*BALANCE.plain.values()}
        assert all(each.keys() == fields for each in page["data"])
    assert (await bank.get("owners/nobody/shares"))["data"] == []
    days = await bank.listed("turnover")
    assert all(day.endswith(f":{CREATED}") for day in days)
    shown = [await bank.get(f"turnover/{day}") for day in days]
    assert sum(day["shares"] for day in shown) == len(bank.events)


async def test_an_account_moves_with_all_it_has_and_counts_once(both: Settings, bank: Bank) -> None:
    before, (first, *_) = added(bank.events), bank.events
    account = first["account_id"]
    moved = new_event(account, 2, OWNER_UPDATED, {"owner": "ada"})
    more = new_event(account, 3, DEPOSITED, {"money": 7})
    waiting = asyncio.create_task(
        bank.get(f"owners/ada?account={account}&min_version=3&timeout=30")
    )
    await bank.happens(moved)
    await bank.happens(moved, more, moved)  # delivered again, in any order
    shares, total = before["ada"]
    group = {"id": "ada", "shares": shares + 1, "sums": {"balance": total + 10 + 7}}
    assert await waiting == group
    async with bank.client.get("/projections/owners/Ada") as answer:
        await problem(answer, 404, "document-not-found")
    late = await bank.get(f"owners/ada?account={account}&min_version=4&timeout=0")
    assert late == {**group, "stale": True}
    flows = f"turnover/{next(iter(await bank.listed('turnover', 'prefix=2&limit=1')))}"
    assert "stale" not in await bank.get(f"{flows}?account={account}&min_version=3&timeout=30")
    assert await judged(both) == []


async def test_sums_are_exact_beyond_what_the_index_can_add_up(
    both: Settings, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_reader, "PAGE", 500)
    await bank.happens(*(opened("Rich", MOST - i % 2) for i in range(RICH)))
    total = RICH * MOST - RICH // 2
    assert total > 2**63
    assert await bank.get("owners/Rich") == {
        "id": "Rich",
        "shares": RICH,
        "sums": {"balance": total},
    }
    assert (await bank.listed("owners"))["Rich"] == (RICH, total)
    assert await judged(both) == []


async def test_what_can_t_be_asked(bank: Bank) -> None:
    account = bank.events[0]["account_id"]
    for wrong in (
        *("owners?limit=0", "owners?starting_after=x", "owners?sort=id", "owners?prefix="),
        *("owners/Ada?min_version=1", f"owners/Ada?account={account}", "owners/Ada?account=%2F"),
        "owners/Ada/shares?sort=nothing",
    ):
        async with bank.client.get(f"/projections/{wrong}") as answer:
            await problem(answer, 400, "invalid-input")
    page = await bank.get("turnover?limit=1")
    assert not page["has_more"]
    page = await bank.get("owners?limit=1")
    async with bank.client.get(f"/projections/turnover?starting_after={page['next']}") as answer:
        await problem(answer, 400, "invalid-input")


async def test_verify_finds_a_share_that_is_counted_twice_or_not_at_all(
    both: Settings, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await judged(both) == []
    page = GroupReader.page

    async def lying(self: GroupReader, **query: Any) -> Any:
        groups, more = await page(self, **query)
        twice, *others = (each for each in groups if each.key != "ß")
        return [twice._replace(shares=twice.shares + 1), *others], more

    monkeypatch.setattr(GroupReader, "page", lying)
    shares, total = added(bank.events)["ß"]
    wrong = await judged(both)
    assert f"owners ß: not shown, there are {shares} shares with {{'balance': {total}}}" in wrong
    assert {each.partition(" ")[0] for each in wrong} == {"owners", "turnover"}


async def test_a_projection_of_that_name_was_there_before(settings: Settings) -> None:
    own = settings.model_copy(update={"projections": f"balance {__name__}:OWN"})
    async with stores(own, BALANCE), stores(own, OWN), serving(create_app(own)) as client:
        async with client.get("/projections/owners") as answer:
            assert await answer.json() == {"data": [], "has_more": False}
        async with client.get("/projections/owners/x/shares") as answer:
            await problem(answer, 404, "not-found")


OWN = Projection("owners", lambda _, __: {}, {})
