"""Events in older forms: every reader comes to the same; what nobody can read decides nothing."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, cast

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from ulid import ULID

from api.accounts.app import create_app
from pipeline.application import Application
from pipeline.banking.account import ACCOUNT
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import (
    CLOSED,
    CREATED,
    DEPOSITED,
    FROZEN,
    KINDS,
    OWNER_UPDATED,
    UNFROZEN,
    WITHDRAWN,
    Body,
)
from pipeline.eventstore import EventStore
from pipeline.model import upcasters as upcasting
from pipeline.model.aggregate import Aggregate
from pipeline.model.events import SLOTS, Event, decode, encode, new_event
from pipeline.model.projection import Document
from pipeline.model.upcasters import Unreadable, Upcaster, newest, require_newest, upcast, upcasters
from pipeline.operations.checker import Report, check
from pipeline.support.settings import Settings
from tests.accounts import fold
from tests.accounts import shown as answered
from tests.commands.library import BOOK, READER, Book
from tests.services import Client, problem, serving

LIFE: Final[list[tuple[str, Body]]] = [
    (CREATED, {"owner": "Ada", "money": 100}),
    (DEPOSITED, {"money": 50}),
    (WITHDRAWN, {"money": 30}),
    (FROZEN, {"reason": ""}),
    (UNFROZEN, {}),
    (OWNER_UPDATED, {"owner": "Grace"}),
    (WITHDRAWN, {"money": 120}),
    (CLOSED, {}),
]
"""A history with every kind in it."""

Form = Callable[[Mapping[str, Any]], dict[str, Any]]


def _wrapped(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"was": dict(body)}


def _listed(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"was": [*body["was"].items()]}


def _unlisted(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"was": dict(event["body"]["was"])}


def _unwrapped(event: Mapping[str, Any]) -> dict[str, Any]:
    return cast(dict[str, Any], event["body"]["was"])


def history() -> list[Event]:
    account_id = str(ULID())
    return [new_event(account_id, n, *happened) for n, happened in enumerate(LIFE, start=1)]


def older(event: Event, steps: int) -> Event:
    """The event as it was made so many schemas ago, under the forms of `two_older_forms`."""
    body: dict[str, Any] = dict(event["body"])
    for change in (_wrapped, _listed)[:steps]:
        body = change(body)
    return cast(Event, {**event, "body": body, "schema": event["schema"] - steps})


@pytest.fixture
def two_older_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind has two forms more than it has: its last schema but two, and but one."""
    for kind in KINDS:
        for step in (_unlisted, _unwrapped):
            monkeypatch.setitem(ACCOUNT.upcasters, (kind, newest(kind)), step)
            monkeypatch.setitem(upcasters(), (kind, newest(kind)), step)
        monkeypatch.setitem(ACCOUNT.schemas, kind, newest(kind))


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        yield client


def test_the_table_has_kinds_that_are_and_no_gap() -> None:
    for kind, schema in upcasters():
        assert kind in KINDS
        assert 1 <= schema < newest(kind)
    assert [newest(kind) for kind in (CREATED, FROZEN)] == [1, 2]


def test_an_event_is_made_in_the_newest_form_and_stays_the_one_it_is() -> None:
    for event in history():
        assert event["schema"] == newest(event["kind"])
        require_newest(event)
        assert upcast(event) is event


def test_the_freezing_without_a_reason() -> None:
    """The one older form that banks may hold: `AccountFrozen` had no reason at first."""
    event = new_event(str(ULID()), 4, FROZEN, {"reason": "a writ"})
    old: Any = {**event, "schema": 1, "body": {}}
    assert upcast(old) == {**event, "body": {"reason": ""}}
    assert old == {**event, "schema": 1, "body": {}}


@pytest.mark.usefixtures("two_older_forms")
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.integers(0, 2), min_size=len(LIFE), max_size=len(LIFE)))
def test_any_mix_of_forms_is_one_history(steps: list[int]) -> None:
    events = history()
    stored = [older(event, back) for event, back in zip(events, steps, strict=True)]
    assert [upcast(event) for event in stored] == events
    delivered = [decode(encode(event)) for event in stored]
    assert BALANCE.fold_all(delivered) == BALANCE.fold_all(events)


@pytest.mark.usefixtures("two_older_forms")
@pytest.mark.parametrize("back", [0, 1, 2])
async def test_every_reader_of_the_store_sees_the_newest_form(
    store: EventStore, bank: Client, back: int
) -> None:
    events = history()
    account_id = events[0]["account_id"]
    for event in events[:-1]:
        await store.append(older(event, back))
    events = events[:-1]
    assert await store.load(account_id) == events
    assert await store.load(account_id, after=3) == events[3:]
    assert await store.load_many([account_id]) == {account_id: events}
    assert [page async for page in store.replay(range(SLOTS))] == [events]
    async with bank.get(f"/{account_id}") as answer:
        shown = await answer.json()
    document, account = BALANCE.fold_all(events), answered(fold(account_id, events))
    assert document is not None
    for name, value in (("balance", 0), ("owner", "Grace"), ("status", "open"), ("version", 7)):
        assert shown[name] == account[name] == document[name] == value  # type: ignore[literal-required]
    report = await checked(store, document)
    assert report.holds, report
    async with bank.post("/close", json={"id": account_id}) as answer:
        assert (await answer.json())["status"] == "closed"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 3, "kind": FROZEN}, "schema 3 of AccountFrozen is newer than 2"),
        ({"schema": 2}, "schema 2 of MoneyDeposited is newer than 1"),
        ({"schema": 0}, "schema 0 of MoneyDeposited is not known"),
        ({"schema": 1, "kind": FROZEN, "body": None}, "no schema 1 of AccountFrozen: TypeError"),
        ({"kind": "MoneyBurnt"}, "MoneyBurnt"),
    ],
)
async def test_what_is_in_no_known_form_is_decided_by_nobody(
    store: EventStore, bank: Client, change: dict[str, Any], reason: str
) -> None:
    good, sick = history()[:2], history()[:2]
    sick_id, other = sick[0]["account_id"], good[0]["account_id"]
    for event in (*good, sick[0], cast(Event, {**sick[1], **change})):
        await store.append(event)
    for request in (
        bank.get(f"/{sick_id}"),
        bank.post("/deposit", json={"id": sick_id, "money": 1}),
        bank.patch(f"/{sick_id}", json={"owner": "Eve"}),
        bank.post("/transfer", json={"from": sick_id, "to": other, "money": 1}),
        bank.post("/transfer", json={"from": other, "to": sick_id, "money": 1}),
    ):
        async with request as answer:
            document = await problem(answer, 503, "account-unreadable")
        assert document["account"] == sick_id
        assert reason in document["detail"]
        assert answer.headers["Retry-After"]
    assert await store.count() == 4
    result = BALANCE.replay((await store.load_many([sick_id]))[sick_id])
    assert result.document == BALANCE.fold_all(sick[:1])
    assert result.poison is not None
    assert reason in result.poison.reason
    pages = [event["_id"] async for page in store.replay(range(SLOTS)) for event in page]
    assert {event["_id"] for event in (*good, *sick)} == set(pages)
    assert not (
        await checked(store, *filter(None, [BALANCE.fold_all(good), result.document]))
    ).holds
    async with bank.post("/deposit", json={"id": other, "money": 1}) as answer:
        assert answer.status == 200


async def test_a_remembered_account_is_not_decided_past_what_can_t_be_read(
    store: EventStore, bank: Client
) -> None:
    """This replica knows the account; one of a newer version has stored what it can't read."""
    async with bank.post("/create", json={"owner": "Ada", "money": 9}) as answer:
        account_id = (await answer.json())["id"]
    event = new_event(account_id, 2, DEPOSITED, {"money": 1})
    await store.append({**event, "schema": 7})
    async with bank.post("/withdraw", json={"id": account_id, "money": 9}) as answer:
        await problem(answer, 503, "account-unreadable")
    assert await store.count() == 2


def test_an_upcaster_that_fails_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Mapping[str, Any]) -> dict[str, Any]:
        raise RuntimeError("no such rate")

    upcaster: Upcaster = failing
    monkeypatch.setitem(upcasters(), (DEPOSITED, 1), upcaster)
    event: Event = {**new_event(str(ULID()), 2, DEPOSITED, {"money": 1}), "schema": 1}
    assert upcast(event) is event
    with pytest.raises(Unreadable, match="no such rate"):
        require_newest(event)


async def checked(store: EventStore, *documents: Document) -> Report:
    """The checker's report on the store and these documents."""

    class Projected:
        async def version(self) -> int:
            return BALANCE.version

        async def documents(self, ids: list[str]) -> dict[str, dict[str, Any]]:
            return {each["id"]: dict(each) for each in documents if each["id"] in ids}

        async def ids(self) -> AsyncIterator[list[str]]:
            yield [each["id"] for each in documents]

    async def nothing() -> frozenset[int]:
        return frozenset()

    return await check(store, Projected(), under_way=nothing, patience=0)


def test_an_application_s_own_are_in_the_place_of_the_bank_s() -> None:
    upcasting.choose("post", {("ParcelSent", 1): lambda event: {**event["body"], "weight": 0}})
    assert (newest("ParcelSent"), newest(FROZEN)) == (2, 1)
    old = {**new_event("parcel-1", 1, "ParcelSent", {"to": "Porto"}), "schema": 1}
    assert upcast(old)["body"] == {"to": "Porto", "weight": 0}
    assert new_event("parcel-1", 1, "ParcelSent", {})["schema"] == 2


def test_an_application_has_those_of_its_aggregates() -> None:
    """Who declares an aggregate does not declare its upcasters for the workers once more."""
    steps: dict[tuple[str, int], Upcaster] = {
        ("CopyBought", 1): lambda event: {**event["body"], "level": 1}
    }
    more = {("ShelfMoved", 1): _unwrapped, **steps}
    book = Aggregate(
        "book",
        initial=Book,
        decide=BOOK.decide,
        evolve=BOOK.evolve,
        kinds=BOOK.schemas,
        upcasters=steps,
    )
    assert Application("library", aggregates=[READER, book]).upcasters == steps
    library = Application("library", aggregates=[READER, book], upcasters=more)
    assert library.upcasters == more
    upcasting.choose(library.name, library.upcasters)
    old: Any = {**new_event("book-1", 1, "CopyBought", {"title": "Emma"}), "schema": 1}
    assert upcast(old)["body"] == {"title": "Emma", "level": 1}
    assert upcast(old) == book.newest_form(old)
    with pytest.raises(ValueError, match=re.escape("two upcasters of [('CopyBought', 1)]")):
        Application("library", aggregates=[book], upcasters={("CopyBought", 1): _unwrapped})
    # Workers would go by it, and commands would not.
    with pytest.raises(ValueError, match=re.escape("upcasters of ['CopyBought']: these are an")):
        Application("library", aggregates=[book], upcasters={("CopyBought", 2): _unwrapped})
