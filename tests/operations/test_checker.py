"""The checker can fail: each invariant is broken by hand in real stores, and must be named."""

import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
import orjson
import pymongo
import pytest
from pymongo.collection import Collection

from pipeline.banking.balance import BALANCE
from pipeline.banking.events import (
    CLOSED,
    CREATED,
    DEPOSITED,
    FROZEN,
    OWNER_UPDATED,
    UNFROZEN,
    WITHDRAWN,
    Body,
)
from pipeline.eventstore import EventStore, InvalidDocuments
from pipeline.model.events import SLOTS, Event, new_event
from pipeline.operations.checker import Answer, Command, Report, check
from pipeline.operations.checker.ledger import Ledger
from pipeline.search.scan import IndexScan
from pipeline.support.settings import Settings
from tests.harness import rounds

ANN, BOB, CAT = (f"01J00000000000000000000{name}" for name in ("ANN", "BB0", "CAT"))


@dataclass
class Bench:
    """A small sound bank in real stores, with the means to break it."""

    store: EventStore
    survey: IndexScan
    events: Collection[dict[str, Any]]
    http: aiohttp.ClientSession
    versions: dict[str, int] = field(default_factory=dict)
    moving: frozenset[int] = frozenset()

    async def happen(self, account: str, kind: str, body: Body) -> Event:
        event = self.next(account, kind, body)
        await self.store.append(event)
        return event

    def next(self, account: str, kind: str, body: Body) -> Event:
        self.versions[account] = self.versions.get(account, 0) + 1
        return new_event(account, self.versions[account], kind, body)

    async def transfer(self, payer: str, payee: str, money: int, number: str = "t1") -> None:
        await self.store.append(
            self.next(
                payer,
                WITHDRAWN,
                {"money": money, "transfer": {"id": number, "counterparty": payee}},
            ),
            self.next(
                payee,
                DEPOSITED,
                {"money": money, "transfer": {"id": number, "counterparty": payer}},
            ),
        )

    async def project(self, account: str, version: int | None = None) -> dict[str, Any]:
        """Write the document of an account as the product does, of its first `version` events."""
        events = (await self.store.load(account))[:version]
        document = BALANCE.fold_all(events)
        assert document is not None
        await self.put(account, dict(document))
        return dict(document)

    async def make_index(self, mapping: Mapping[str, Any]) -> None:
        index = {"mappings": mapping, "aliases": {"balance": {}}}
        async with self.http.put("/balance-1", json=index) as answer:
            assert answer.status == 200, await answer.text()

    async def put(self, account: str, document: dict[str, Any]) -> None:
        path = f"/balance/_doc/{account}"
        async with self.http.put(path, json=document) as answer:
            assert answer.status in (200, 201), await answer.text()

    async def change(self, account: str, **fields: Any) -> None:
        """Change fields of a document by hand."""
        found = await self.survey.documents([account])
        await self.put(account, {**found[account], **fields})

    async def remove(self, account: str) -> None:
        """Delete a document."""
        async with self.http.delete(f"/balance/_doc/{account}") as answer:
            assert answer.status == 200, await answer.text()

    async def under_way(self) -> frozenset[int]:
        return self.moving

    async def check(
        self,
        history: list[Answer] | None = None,
        *,
        alone: bool = False,
        patience: float = 0.3,
    ) -> Report:
        return await check(
            self.store,
            self.survey,
            under_way=self.under_way,
            history=history,
            alone=alone,
            patience=patience,
        )


@pytest.fixture
def events(settings: Settings) -> Iterator[Collection[dict[str, Any]]]:
    """The collection, to break by hand."""
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False) as client:
        yield client[settings.mongodb_database]["events"]


@pytest.fixture
async def bench(settings: Settings, events: Collection[dict[str, Any]]) -> AsyncIterator[Bench]:
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    survey = IndexScan(settings.elasticsearch_url, "balance")
    async with aiohttp.ClientSession(settings.elasticsearch_url) as http:
        bench = Bench(store, survey, events, http)
        await bench.make_index(BALANCE.mapping)
        await _live_a_little(bench)
        yield bench
    await survey.close()
    await store.close()


async def _live_a_little(bench: Bench) -> None:
    await bench.happen(ANN, CREATED, {"owner": "Ann", "money": 500})
    await bench.happen(BOB, CREATED, {"owner": "Bob", "money": 0})
    await bench.happen(ANN, DEPOSITED, {"money": 30})
    await bench.happen(ANN, WITHDRAWN, {"money": 100})
    await bench.transfer(ANN, BOB, 200)
    await bench.happen(BOB, OWNER_UPDATED, {"owner": "Robert"})
    await bench.project(ANN)
    await bench.project(BOB)


HISTORY = [
    Answer(Command("create", money=500, owner="Ann"), 201, ANN, 1),
    Answer(Command("create", money=0, owner="Bob"), 201, BOB, 1),
    Answer(Command("deposit", ANN, 30), 200, ANN, 2),
    Answer(Command("withdraw", ANN, 100), 200, ANN, 3),
    Answer(Command("withdraw", ANN, 10_000), 422),
    Answer(Command("transfer", ANN, 200, to=BOB), 200, ANN, 4),
    Answer(Command("owner", BOB, owner="Robert"), 200, BOB, 3),
]
FREEZING = [
    Answer(Command("freeze", BOB), 200, BOB, 4),
    Answer(Command("unfreeze", BOB), 200, BOB, 5),
    Answer(Command("unfreeze", BOB), 409),
]


@pytest.mark.elasticsearch
async def test_sound_stores_hold(bench: Bench) -> None:
    report = await bench.check(HISTORY, alone=True)
    assert [verdict.holds for verdict in report.verdicts] == [True] * 11, report
    assert report.holds
    assert report.figures.events == 7
    assert report.figures.accounts == report.figures.documents == 2
    assert report.figures.transfers == 1
    assert report.verdicts[0].figure == "430 = 730 in - 300 out; 1 transfers"
    assert report.verdicts[2].figure == "6 acknowledged, 1 rejected"
    assert report.verdicts[4].figure == "lowest 0"


async def test_without_a_history_the_third_and_the_eighth_are_not_judged(bench: Bench) -> None:
    report = await bench.check()
    assert [verdict.number for verdict in report.verdicts if verdict.holds is None] == [3, 8]
    assert report.holds


async def test_the_report_is_json(bench: Bench) -> None:
    shown = orjson.loads(orjson.dumps((await bench.check()).as_json()))
    assert shown["holds"] is True
    assert [verdict["number"] for verdict in shown["verdicts"]] == [
        1,
        2,
        3,
        4,
        5,
        8,
        13,
        16,
        17,
        18,
        19,
    ]


async def test_an_empty_bank_holds(bench: Bench) -> None:
    bench.events.delete_many({})
    await bench.remove(ANN)
    await bench.remove(BOB)
    assert (await bench.check([], alone=True)).holds


# ------------------------------------------------------------------ 1: money


async def test_a_transfer_with_one_leg(bench: Bench) -> None:
    bench.events.delete_one({"account_id": BOB, "version": 2})
    bench.events.update_one({"account_id": BOB, "version": 3}, {"$set": {"version": 2}})
    await bench.project(BOB)
    report = await bench.check()
    assert report.violated == [1]
    assert "has one leg only" in report.verdicts[0].examples[0]
    assert ANN in report.verdicts[0].examples[0]


async def test_a_transfer_whose_legs_differ(bench: Bench) -> None:
    bench.events.update_one({"account_id": BOB, "version": 2}, {"$set": {"body.money": 201}})
    await bench.project(BOB)
    report = await bench.check()
    assert report.violated == [1]
    assert report.verdicts[0].violations == 2


async def test_a_deposit_twice_for_one_withdrawal(bench: Bench) -> None:
    body: Body = {"money": 200, "transfer": {"id": "t1", "counterparty": ANN}}
    await bench.happen(BOB, DEPOSITED, body)
    await bench.project(BOB)
    assert (await bench.check()).violated == [1]


@pytest.mark.parametrize("money", [-30, 1.5, "30", True, 2**53, None])
async def test_an_amount_that_is_none(bench: Bench, money: object) -> None:
    bench.events.update_one({"account_id": ANN, "version": 2}, {"$set": {"body.money": money}})
    report = await bench.check()
    assert 1 in report.violated
    assert "is no amount of money" in report.verdicts[0].examples[0]


async def test_an_unknown_kind(bench: Bench) -> None:
    bench.events.update_one({"account_id": ANN, "version": 2}, {"$set": {"kind": "Robbed"}})
    assert 1 in (await bench.check()).violated


async def test_an_account_opened_twice(bench: Bench) -> None:
    await bench.happen(ANN, CREATED, {"owner": "Ann", "money": 5})
    assert 1 in (await bench.check()).violated


async def test_money_on_a_frozen_or_closed_account(bench: Bench) -> None:
    await bench.happen(ANN, FROZEN, {"reason": ""})
    await bench.happen(ANN, UNFROZEN, {})
    await bench.happen(ANN, WITHDRAWN, {"money": 230})
    await bench.happen(ANN, CLOSED, {})
    await bench.happen(BOB, FROZEN, {"reason": ""})
    await bench.project(ANN)
    await bench.project(BOB)
    assert (await bench.check()).holds
    await bench.happen(ANN, DEPOSITED, {"money": 1})
    await bench.happen(BOB, WITHDRAWN, {"money": 1})
    await bench.happen(BOB, UNFROZEN, {})
    await bench.happen(BOB, CLOSED, {})
    await bench.project(ANN)
    await bench.project(BOB)
    report = await bench.check()
    assert report.violated == [1]
    assert set(report.verdicts[0].examples) == {
        f"account {ANN}, version 9: MoneyDeposited while the account is closed",
        f"account {BOB}, version 5: MoneyWithdrawn while the account is frozen",
        f"account {BOB}, version 7: closed with 199 in it",
    }


async def test_a_transfer_that_lands_between_two_reads_is_no_fault(bench: Bench) -> None:
    """The walk reads one account before a transfer and the other one after it."""
    ledger = Ledger()
    snapshot = [events async for events in bench.store.replay(range(SLOTS))]
    half = [event for events in snapshot for event in events if event["account_id"] == ANN]
    async for _ in ledger.walk(_lists(half)):
        pass
    assert ledger.pairing.sums.uneven()
    assert [leg async for leg in ledger.pairing.alone(bench.store)] == []


async def _lists(events: list[Event]) -> AsyncIterator[list[Event]]:
    yield events


# ------------------------------------------------------------------ 2: versions


async def test_a_gap(bench: Bench) -> None:
    bench.events.delete_one({"account_id": ANN, "version": 2})
    report = await bench.check()
    assert 2 in report.violated
    assert f"account {ANN}, version 3 follows version 1" in report.verdicts[1].examples


async def test_an_account_without_its_first_event(bench: Bench) -> None:
    bench.events.delete_one({"account_id": BOB, "version": 1})
    assert 2 in (await bench.check()).violated


async def test_a_version_twice(bench: Bench) -> None:
    bench.events.drop_index("account_version")
    double = bench.events.find_one({"account_id": ANN, "version": 2})
    assert double is not None
    bench.events.insert_one({**double, "_id": "another"})
    report = await bench.check()
    assert 2 in report.violated
    assert f"account {ANN}, version 2 follows version 2" in report.verdicts[1].examples
    guards = report.verdicts[6]
    assert (guards.number, guards.holds) == (13, False)
    missing, shared = guards.examples
    assert missing == "MongoDB: the index account_version is missing"
    assert f"version 2 of account '{ANN}' is in 2 events" in shared


async def test_a_guard_that_is_none(bench: Bench) -> None:
    """Nothing else is wrong yet: it is told before anything happens twice."""
    bench.events.drop_index("idempotency_key_sparse")
    bench.events.create_index("idempotency_key", name="idempotency_key_sparse")
    report = await bench.check()
    assert report.violated == [13]
    (why,) = report.as_json()["verdicts"][6]["examples"]
    assert "idempotency_key_sparse can't be trusted (unique: False, sparse: False)" in why


# ------------------------------------------------------------------ 3: history


async def test_an_acknowledged_command_that_was_lost(bench: Bench) -> None:
    bench.events.delete_one({"account_id": BOB, "version": 3})
    await bench.project(BOB)
    report = await bench.check(HISTORY)
    assert report.violated == [3]
    assert "lost" in report.verdicts[2].examples[0]


async def test_an_acknowledged_command_stored_as_another(bench: Bench) -> None:
    bench.events.update_one({"account_id": ANN, "version": 2}, {"$set": {"body.money": 31}})
    await bench.project(ANN)
    assert (await bench.check(HISTORY)).violated == [3]


async def test_a_rejected_command_that_left_an_event(bench: Bench) -> None:
    await bench.happen(ANN, WITHDRAWN, {"money": 1})
    await bench.project(ANN)
    rejected = Answer(Command("withdraw", ANN, 1), 422)
    report = await bench.check([*HISTORY, rejected])
    assert report.violated == [3]


async def test_a_command_without_an_answer_may_have_been_done(bench: Bench) -> None:
    await bench.happen(ANN, WITHDRAWN, {"money": 1})
    await bench.project(ANN)
    unknown = Answer(Command("withdraw", ANN, 1), 503)
    report = await bench.check([*HISTORY, unknown, unknown])
    assert report.holds
    assert "2 without an answer" in report.verdicts[2].figure


async def test_freezes_are_claimed_as_any_command(bench: Bench) -> None:
    await bench.happen(BOB, FROZEN, {"reason": ""})
    await bench.happen(BOB, UNFROZEN, {})
    await bench.project(BOB)
    assert (await bench.check([*HISTORY, *FREEZING])).holds
    assert (await bench.check([*HISTORY, *FREEZING[:1]])).violated == [3]


async def test_one_version_told_to_two_commands(bench: Bench) -> None:
    again = Answer(Command("deposit", ANN, 30), 200, ANN, 2)
    assert (await bench.check([*HISTORY, again])).violated == [3]


async def test_an_account_nobody_opened(bench: Bench) -> None:
    await bench.happen(CAT, CREATED, {"owner": "Cat", "money": 0})
    await bench.project(CAT)
    assert (await bench.check(HISTORY)).holds
    assert (await bench.check(HISTORY, alone=True)).violated == [3]
    opened = Answer(Command("create", money=0, owner="Cat"), 0)
    assert (await bench.check([*HISTORY, opened], alone=True)).holds


# ------------------------------------------------------------------ 8: keys


def under(answer: Answer, key: str) -> Answer:
    return answer._replace(key=key, body=b"the answer")


def bearing(bench: Bench, account: str, version: int, key: str) -> None:
    where = {"account_id": account, "version": version}
    bench.events.update_one(where, {"$set": {"idempotency_key": key}})


async def test_a_key_with_one_effect_and_one_answer(bench: Bench) -> None:
    bearing(bench, ANN, 2, "k")
    bearing(bench, ANN, 4, "l")
    keyed = {2: under(HISTORY[2], "k"), 5: under(HISTORY[5], "l")}
    history = [keyed.get(n, answer) for n, answer in enumerate(HISTORY)]
    refused = keyed[2]._replace(status=422, id="", version=0)
    report = await bench.check([*history, keyed[2], keyed[2], refused], alone=True)
    assert report.holds
    assert report.verdicts[5].figure == "2 keys, 2 answered again"
    assert report.verdicts[2].figure == "6 acknowledged, 2 rejected"


async def test_a_key_with_two_answers(bench: Bench) -> None:
    bearing(bench, ANN, 2, "k")
    first = under(HISTORY[2], "k")
    for other in ({"body": b"another answer"}, {"version": 9}, {"status": 201}, {"id": BOB}):
        history = [*HISTORY[:2], first, *HISTORY[3:], first._replace(**other)]
        assert (await bench.check(history)).violated == [8]


async def test_a_key_with_two_effects(bench: Bench) -> None:
    await bench.happen(ANN, DEPOSITED, {"money": 30})
    await bench.project(ANN)
    bench.events.drop_index("idempotency_key_sparse")
    for version in (2, 5):
        bearing(bench, ANN, version, "k")
    history = [*HISTORY[:2], under(HISTORY[2], "k"), *HISTORY[3:]]
    report = await bench.check(history)
    assert 8 in report.violated
    assert "second effect" in report.verdicts[5].examples[0]


async def test_an_effect_without_its_key_and_one_with_anothers(bench: Bench) -> None:
    history = [*HISTORY[:2], under(HISTORY[2], "k"), *HISTORY[3:]]
    assert (await bench.check(history)).violated == [8]
    bearing(bench, ANN, 2, "l")
    assert (await bench.check(history)).violated == [8]
    assert (await bench.check(HISTORY)).violated == [8]


# ------------------------------------------------------------------ 4: documents


@pytest.mark.elasticsearch
@pytest.mark.parametrize(
    "wrong",
    [
        {"balance": 231},
        {"owner": "Eve"},
        {"owner_plain": "eve"},
        {"status": "closed"},
        {"slot": 99},
        {"event_id": "01J00000000000000000000000"},
        {"updated_at": "2020-01-01T00:00:00Z"},
        {"id": BOB},
        {"version": 7},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_a_document_that_was_changed(bench: Bench, wrong: dict[str, Any]) -> None:
    await bench.change(ANN, **wrong)
    report = await bench.check()
    assert report.violated == [4]
    assert ANN in report.verdicts[3].examples[0]


@pytest.mark.elasticsearch
async def test_a_field_that_only_an_older_index_may_lack(bench: Bench) -> None:
    documents = await bench.survey.documents([ANN, BOB])
    del documents[ANN]["owner_plain"]
    await bench.put(ANN, documents[ANN])
    assert (await bench.check()).violated == [4]
    older = {**BALANCE.mapping, "_meta": {"projection": BALANCE.version - 1}}
    async with bench.http.delete("/balance-1") as answer:
        assert answer.status == 200, await answer.text()
    await bench.make_index(older)
    for account, document in documents.items():
        await bench.put(account, document)
    assert (await bench.check()).holds


@pytest.mark.elasticsearch
async def test_a_missing_document(bench: Bench) -> None:
    await bench.remove(BOB)
    report = await bench.check()
    assert report.violated == [4]
    assert report.verdicts[3].examples == (f"account {BOB}: no document for 3 events",)


@pytest.mark.elasticsearch
async def test_a_document_of_nobody(bench: Bench) -> None:
    document = (await bench.survey.documents([ANN]))[ANN]
    await bench.put(CAT, {**document, "id": CAT})
    report = await bench.check()
    assert report.violated == [4]
    assert report.verdicts[3].examples == (f"account {CAT}: a document without an event",)


@pytest.mark.elasticsearch
async def test_a_document_that_is_behind_with_nothing_under_way(bench: Bench) -> None:
    await bench.project(ANN, 2)
    report = await bench.check()
    assert report.violated == [4]
    assert "at version 2 of 4" in report.verdicts[3].examples[0]


@pytest.mark.elasticsearch
async def test_a_document_that_is_behind_is_lag_while_its_partition_moves(bench: Bench) -> None:
    await bench.project(ANN, 2)
    bench.moving = frozenset(range(SLOTS))
    report = await bench.check()
    assert report.holds
    assert report.figures.lag_documents == 1
    assert report.figures.lag_events == 2


@pytest.mark.elasticsearch
async def test_a_document_that_follows_is_well_though_more_comes_all_the_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = bench.survey.documents

    async def looked_at(ids: list[str]) -> dict[str, dict[str, Any]]:
        await bench.happen(ANN, DEPOSITED, {"money": 1})
        await bench.project(ANN)
        found = await documents(ids)
        await bench.happen(ANN, DEPOSITED, {"money": 1})
        return found

    monkeypatch.setattr(bench.survey, "documents", looked_at)
    report = await bench.check(patience=10)
    assert report.holds, report


@pytest.mark.elasticsearch
async def test_a_document_that_is_behind_and_wrong_is_no_lag(bench: Bench) -> None:
    await bench.project(ANN, 2)
    await bench.change(ANN, balance=1)
    bench.moving = frozenset(range(SLOTS))
    assert (await bench.check()).violated == [4]


@pytest.mark.elasticsearch
async def test_what_comes_right_while_it_is_looked_at_is_no_fault(bench: Bench) -> None:
    await bench.project(ANN, 2)
    late: Callable[[], Any] = bench.survey.ids

    async def ids() -> AsyncIterator[list[str]]:
        await bench.project(ANN)
        async for page in late():
            yield page

    bench.survey.ids = ids  # type: ignore[method-assign]
    assert (await bench.check()).holds


# ------------------------------------------------------------------ 5: below zero


async def test_a_balance_below_zero_in_between(bench: Bench) -> None:
    await bench.happen(BOB, WITHDRAWN, {"money": 300})
    await bench.happen(BOB, DEPOSITED, {"money": 300})
    await bench.project(BOB)
    report = await bench.check()
    assert report.violated == [5]
    assert f"account {BOB}, version 4: the balance is -100" in report.verdicts[4].examples


# ------------------------------------------------------------------ much of it


@pytest.mark.elasticsearch
async def test_many_accounts_and_only_some_are_named(bench: Bench) -> None:
    for number in range(40):
        account = f"01J0000000000000000000{number:04}"
        await bench.happen(account, CREATED, {"owner": "X", "money": 1})
    report = await bench.check()
    assert report.violated == [4]
    assert report.verdicts[3].violations == 40
    assert len(report.verdicts[3].examples) == 10


ONE: Event = {**new_event(ANN, 1, CREATED, {"owner": "X", "money": 1}), "slot": 0}


class Endless:
    """A store and its projection of so many accounts, made as they are read."""

    def __init__(self, accounts: int) -> None:
        self.accounts = accounts
        self.guards = self

    async def look(self) -> None:
        """Its guards are there."""

    async def replay(self, slots: Iterable[int]) -> AsyncIterator[list[Event]]:
        for first in range(0, self.accounts, 500):
            yield [self.event(f"{number:026}") for number in range(first, first + 500)]

    async def version(self) -> int:
        return BALANCE.version

    async def documents(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        found = ((each, BALANCE.fold_all([self.event(each)])) for each in ids)
        return {each: dict(document) for each, document in found if document}

    async def invalid_documents(self) -> InvalidDocuments:
        return InvalidDocuments()

    async def ids(self) -> AsyncIterator[list[str]]:
        for first in range(0, self.accounts, 500):
            yield [f"{number:026}" for number in range(first, first + 500)]

    def event(self, account: str) -> Event:
        return {**ONE, "_id": account, "account_id": account}


async def test_memory_does_not_grow_with_the_number_of_accounts() -> None:
    async def nothing() -> frozenset[int]:
        return frozenset()

    async def peak(accounts: int) -> int:
        endless = Endless(accounts)
        tracemalloc.start()
        report = await check(cast(EventStore, endless), endless, under_way=nothing)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert report.holds, report
        assert report.figures.documents == accounts
        return peak

    await peak(500)
    assert await peak(rounds(15_000, 1_000_000)) < 2 * await peak(1_500)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"kind": None},
        {"kind": ["MoneyDeposited"]},
        {"schema": {}},
        {"body": None},
        {"body": {"money": "5"}},
        {"body": {"money": 5, "transfer": "t"}},
        {"body": {"money": 5, "transfer": {"id": [], "counterparty": None}}},
        {"version": 2.5e15},
        {"idempotency_key": ["k"], "kind": 5},
    ],
    ids=str,
)
async def test_nonsense_in_the_place_of_an_event_is_named(
    bench: Bench, nonsense: dict[str, Any]
) -> None:
    """It is no event, so the account is not sound; but nothing else is said, and nothing fails."""
    await bench.happen(CAT, CREATED, {"owner": "Cat", "money": 100})
    bench.events.insert_one({**bench.next(CAT, DEPOSITED, {"money": 5}), **nonsense})
    await bench.project(CAT, 1)
    report = await bench.check(HISTORY)
    said = [line for verdict in report.verdicts for line in verdict.examples]
    assert {1, 2} & set(report.violated)
    assert any(CAT in line and "version 2" in line for line in said)


async def test_invalid_documents_are_reported_and_violate_nothing(bench: Bench) -> None:
    await bench.happen(CAT, CREATED, {"owner": "Cat", "money": 100})
    await bench.project(CAT)
    bench.events.insert_one({"_id": "x", "slot": 5})
    report = await bench.check()
    assert report.holds
    reported = orjson.loads(orjson.dumps(report.as_json()))["strays"]
    assert reported == {"number": 1, "examples": ["_id 'x': it is of no account"]}
