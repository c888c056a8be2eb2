"""What readers and workers ask of Elasticsearch does not cost more in a large bank, but for lists.

The alias `balance` is moved between a small index and a large one, as a rebuild moves it.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from api.balances.balance_reader import BalanceReader
from api.balances.projection_reader import ProjectionReader
from api.balances.statement_reader import EntryQuery, StatementReader
from pipeline.banking.balance import BALANCE, OWNERS
from pipeline.banking.statement import STATEMENT
from pipeline.search import ConditionalWrite, DocumentReader, Elastic, Generations, Write
from pipeline.search.group_reader import GroupReader, Seen
from pipeline.search.scan import IndexScan
from pipeline.support.settings import Settings
from tests.conftest import given_url
from tests.growth import LARGE, MOST, SMALL, Ask, histories, public, ratios

pytestmark = pytest.mark.elasticsearch

SCANS: Final = {"IndexScan.ids", "GroupReader.page", "GroupReader.shares"}
"""They look at all there is, and are meant to."""

STAND_IN: Final = {
    "Elastic.awaken",
    "BalanceReader.page",
    "StatementReader.page",
    "ProjectionReader.page",
    "GroupReader.group",
}
"""Scans on the embedded Elasticsearch, which looks at each document in every search."""

NO_QUERIES: Final = {
    "Elastic.close",
    "Elastic.extend_mapping",
    "Elastic.keep_alias",
    "Elastic.make_index",
    "Elastic.patiently",
    "DocumentReader.close",
    "DocumentReader.sort_values",  # the same
    "DocumentReader.search",  # measured as `page` of its subclasses
    "IndexScan.close",
    "GroupReader.at_one_moment",
    "GroupReader.close",
}


@dataclass
class Shown:
    """A projection of a bank of so many events, in generations of that number."""

    elastic: Elastic
    index: BalanceReader
    statements: StatementReader
    any_projection: ProjectionReader
    owners: GroupReader
    scan: IndexScan
    number: int
    accounts: list[str] = field(default_factory=list)

    @property
    def any(self) -> str:
        return random.choice(self.accounts)

    async def turn(self) -> None:
        """Let readers see this one."""
        actions: list[dict[str, Any]] = []
        for each in (BALANCE, STATEMENT):
            for number in (1, 2):
                verb = "add" if number == self.number else "remove"
                alias = {"index": f"{each.name}-{number}", "alias": each.name}
                actions.append({verb: alias | ({"must_exist": False} if verb == "remove" else {})})
        await self.elastic.client.indices.update_aliases(actions=actions)


@asynccontextmanager
async def shown(settings: Settings, number: int, events: int) -> AsyncIterator[Shown]:
    """The projections of so many events, as workers would have made them."""
    url = settings.elasticsearch_url
    bank = Shown(
        Elastic(url),
        BalanceReader(url),
        StatementReader(url),
        ProjectionReader(url, BALANCE),
        GroupReader(url, BALANCE, OWNERS),
        IndexScan(url, "balance"),
        number,
    )
    for projection in (BALANCE, STATEMENT):
        await Generations(bank.elastic, projection).create(number)
    writes: dict[str, list[Write]] = {BALANCE.name: [], STATEMENT.name: []}
    for history in histories(events):
        bank.accounts.append(history[0]["account_id"])
        for projection in (BALANCE, STATEMENT):
            documents = projection.replay(history).documents
            writes[projection.name] += [Write(d["id"], d["version"], d) for d in documents]
    for name, every in writes.items():
        for at in range(0, len(every), 1000):
            await bank.elastic.bulk(f"{name}-g{number}", every[at : at + 1000])
        await bank.elastic.client.indices.refresh(index=f"{name}-{number}")
    yield bank
    await bank.statements.close()
    await bank.any_projection.close()
    await bank.owners.close()
    await bank.scan.close()
    await bank.index.close()
    await bank.elastic.close()


async def mget(bank: Shown) -> None:
    ids = [bank.any for _ in range(50)]
    assert (await bank.elastic.mget("balance", ids)).keys() == {*ids}


async def write(bank: Shown) -> None:
    """A document once more, which is a conflict, and another that is deleted again."""
    ((account, there),) = (await bank.elastic.mget("balance", [bank.any])).items()
    alias, twin = f"balance-g{bank.number}", f"{account[:-1]}!"
    outcome = await bank.elastic.bulk(alias, [Write(account, there.version, there.source)])
    assert outcome.conflicts == [0]
    (stamp,) = await bank.elastic.compare_and_set(
        alias, [ConditionalWrite(twin, None, there.source)]
    )
    assert stamp is not None
    assert not await bank.elastic.delete(alias, {twin: stamp})


async def page(bank: Shown) -> None:
    """By id, by owner, by words of the owner's name, and all of them in an order."""
    found, more = await bank.index.page(search=bank.any)
    assert (len(found), more) == (1, None)
    found, more = await bank.index.page(owner=f"Ada {bank.any}")
    assert (len(found), more) == (1, None)
    found, more = await bank.index.page(search=f"ada {bank.any}"[:-1])
    assert found
    found, more = await bank.index.page(sort="balance", descending=True, after=bank.any)
    assert len(found) <= 10


async def statement(bank: Shown) -> None:
    found, more = await bank.statements.page(bank.any, EntryQuery(limit=5))
    assert len(found) == 5
    assert more


async def any_page(bank: Shown) -> None:
    found, more = await bank.any_projection.page(search=bank.any, sort="-balance")
    assert (len(found), more) == (1, None)
    found, more = await bank.any_projection.page(limit=10)
    assert len(found) == 10
    assert more


async def group(bank: Shown) -> None:
    found, fresh = await bank.owners.group(f"Ada {bank.any}", Seen(bank.any, 1))
    assert found
    assert (found.shares, fresh) == (1, True)


READS: Final[dict[str, Ask[Shown]]] = {
    "DocumentReader.get": lambda bank: bank.index.get(bank.any),
    "DocumentReader.many": lambda bank: bank.index.many([bank.any, bank.any]),
    "DocumentReader.has_plain": lambda bank: bank.index.has_plain(),
    "DocumentReader.ping": lambda bank: bank.index.ping(),
    "IndexScan.version": lambda bank: bank.scan.version(),
    "IndexScan.ping": lambda bank: bank.scan.ping(),
    "IndexScan.alias_faults": lambda bank: bank.scan.alias_faults("balance-g*"),
    "IndexScan.found": lambda bank: bank.scan.found([bank.any, bank.any]),
    "IndexScan.documents": lambda bank: bank.scan.documents([bank.any, bank.any]),
    "Elastic.mget": mget,
    "Elastic.bulk": write,
    "Elastic.compare_and_set": write,
    "Elastic.delete": write,
    "Elastic.awaken": lambda bank: bank.elastic.awaken("balance"),
    "Elastic.require_readable": lambda bank: bank.elastic.require_readable("balance"),
    "Elastic.boots": lambda bank: bank.elastic.boots(),
    "Elastic.indexes": lambda bank: bank.elastic.indexes(f"{BALANCE.name},{BALANCE.name}-*"),
    "BalanceReader.page": page,
    "StatementReader.page": statement,
    "ProjectionReader.page": any_page,
    "GroupReader.group": group,
}


@pytest.mark.drill
@pytest.mark.timeout(600)
async def test_reads_do_not_cost_more_in_a_large_projection(settings: Settings) -> None:
    scanned = set() if given_url("BANK_TEST_ELASTICSEARCH_URL") else STAND_IN
    reads = {name: ask for name, ask in READS.items() if name not in scanned}
    async with shown(settings, 1, SMALL) as small, shown(settings, 2, LARGE) as large:
        found = await ratios(reads, small, large)
    assert not {name: ratio for name, ratio in found.items() if ratio > MOST}


def test_every_method_is_in_one_of_the_lists() -> None:
    """One that is new has to be measured, too, or to be named as what it is."""
    asked = public(
        DocumentReader,
        BalanceReader,
        StatementReader,
        ProjectionReader,
        GroupReader,
        IndexScan,
        Elastic,
    )
    assert asked == READS.keys() | SCANS | NO_QUERIES
    assert READS.keys() > STAND_IN
