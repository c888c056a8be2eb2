"""The pure fold: what a document is after an account's events, in whatever order they come."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from pipeline.banking.statement import STATEMENT
from pipeline.model.events import Event, new_event, rfc3339
from pipeline.model.projection import ERA, Projection, Unfoldable
from tests.bank import as_delivered, history

ACCOUNT = "01J00000000000000000000000"


def test_a_document_after_each_kind_of_event() -> None:
    created = new_event(ACCOUNT, 1, CREATED, {"owner": "Ada", "money": 100})
    document: Any = BALANCE.fold(None, created)
    assert document == {
        "id": ACCOUNT,
        "owner": "Ada",
        "owner_plain": "ada",
        "balance": 100,
        "status": "open",
        "version": 1,
        "slot": created["slot"],
        "event_id": created["_id"],
        "updated_at": rfc3339(created["created_at"]),
    }
    document = BALANCE.fold(document, new_event(ACCOUNT, 2, DEPOSITED, {"money": 50}))
    document = BALANCE.fold(document, new_event(ACCOUNT, 3, WITHDRAWN, {"money": 150}))
    assert (document["balance"], document["version"], document["owner"]) == (0, 3, "Ada")
    last = new_event(ACCOUNT, 4, OWNER_UPDATED, {"owner": "Grace"})
    document = BALANCE.fold(document, last)
    assert (document["balance"], document["owner"]) == (0, "Grace")
    assert document["owner_plain"] == "grace"
    assert document["event_id"] == last["_id"]


def test_the_status_follows_the_account_s_life() -> None:
    created = new_event(ACCOUNT, 1, CREATED, {"owner": "Ada", "money": 0})
    document: Any = BALANCE.fold(None, created)
    seen = []
    for version, kind in enumerate((FROZEN, UNFROZEN, OWNER_UPDATED, CLOSED), start=2):
        body: Body = {"owner": "Grace", "reason": ""}
        document = BALANCE.fold(document, new_event(ACCOUNT, version, kind, body))
        seen.append((document["status"], document["owner"], document["balance"]))
    assert seen == [
        ("frozen", "Ada", 0),
        ("open", "Ada", 0),
        ("open", "Grace", 0),
        ("closed", "Grace", 0),
    ]


def test_the_mapping_has_every_field_of_a_document_and_no_other() -> None:
    assert set(BALANCE.mapping["properties"]) == BALANCE.fields
    assert BALANCE.mapping["dynamic"] == "strict"


def test_an_event_from_the_stream_folds_like_the_one_from_the_store() -> None:
    events = history(ACCOUNT, 12)
    assert BALANCE.fold_all(as_delivered(events)) == BALANCE.fold_all(events)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"kind": "MoneyPrinted"},
        {"kind": CREATED},
        {"body": {}},
        {"body": {"money": "1"}},
        {"body": None},
    ],
)
def test_what_is_no_next_event_is_not_folded(change: Any) -> None:
    document = BALANCE.fold(None, history(ACCOUNT, 1)[0])
    event: Any = {**new_event(ACCOUNT, 2, DEPOSITED, {"money": 1}), **change}
    with pytest.raises(Unfoldable, match=event["_id"]):
        BALANCE.fold(document, event)


def test_a_first_event_that_opens_no_account_is_not_folded() -> None:
    with pytest.raises(Unfoldable):
        BALANCE.fold(None, new_event(ACCOUNT, 1, DEPOSITED, {"money": 1}))


@pytest.mark.parametrize(
    "error", [AttributeError, IndexError, ZeroDivisionError, RuntimeError, AssertionError]
)
def test_whatever_a_fold_raises_is_of_its_event_alone(error: type[Exception]) -> None:
    """A worker tries what is no `Unfoldable` again without end, and all of the partition waits."""

    def after(document: Any, event: Event) -> dict[str, Any]:
        if event["version"] == 2:
            raise error("broken")
        return {}

    folded = Projection("broken", after, {}).replay(history(ACCOUNT, 3))
    assert folded.applied == 1
    assert folded.poison is not None
    assert f"{error.__name__}('broken')" in folded.poison.reason


def test_an_unknown_kind_is_told_in_words() -> None:
    stranger = {**history(ACCOUNT, 1)[0], "kind": "MoneyBurnt"}
    poison = BALANCE.replay([stranger]).poison  # type: ignore[list-item]
    assert poison is not None
    assert poison.reason == "event of unknown kind MoneyBurnt"


def test_a_field_that_the_body_lacks_is_named_and_no_other_key() -> None:
    def after(document: Any, event: Event) -> dict[str, Any]:
        return {"rate": {"EUR": 1}[event["body"]["currency"]]}

    def reason(body: Any) -> str:
        with pytest.raises(Unfoldable) as error:
            folded.fold(None, new_event(ACCOUNT, 1, CREATED, body))
        return error.value.reason

    folded = Projection("rates", after, {})
    assert reason({}) == "AccountCreated without the field 'currency'"
    assert reason({"currency": "USD"}) == "no AccountCreated: KeyError('USD')"


@given(length=st.integers(1, 30), start=st.integers(0, 30), end=st.integers(0, 30))
def test_any_run_of_a_history_advances_to_its_end_or_stops_at_the_gap(
    length: int, start: int, end: int
) -> None:
    events = history(ACCOUNT, length, seed=length)
    known, run = min(start, length), events[min(end, length) :]
    before = BALANCE.fold_all(events[:known])
    result = BALANCE.advance(before, run)
    gap = bool(run) and run[0]["version"] > known + 1
    assert (result.gap is not None) is gap
    assert result.document == (before if gap or not run else BALANCE.fold_all(events))
    assert result.applied + result.duplicates == (0 if gap else len(run))


@given(st.data())
def test_a_fold_depends_on_the_set_of_versions_only(data: st.DataObject) -> None:
    events = history(ACCOUNT, 10, seed=data.draw(st.integers(0, 1000)))
    cut = data.draw(st.integers(0, 10))
    first = BALANCE.advance(None, events[:cut])
    second = BALANCE.advance(first.document, events)
    assert second.document == BALANCE.fold_all(events)
    assert second.duplicates == cut


def test_a_text_that_may_be_null_has_a_plain_form_that_may_be() -> None:
    def after(_: Any, event: Event) -> dict[str, Any]:
        return {"town": event["body"].get("town")}

    towns = Projection(
        "towns", after, {"town": {"type": "keyword"}}, optional=["town"], plain=["town"]
    )
    for town, bare in ((None, None), ("Łódź", "lodz")):
        body: Any = {"town": town} if town else {}
        document: Any = towns.fold(None, new_event(ACCOUNT, 1, DEPOSITED, body))
        assert (document["town"], document["town_plain"]) == (town, bare)
        assert towns.sound(1, document)
    for wrong in ("city", "version"):
        with pytest.raises(ValueError, match=wrong):
            Projection("towns", after, {"town": {"type": "keyword"}}, plain=[wrong])


def test_a_document_is_sound_only_as_we_write_it() -> None:
    events: list[Event] = history(ACCOUNT, 5)
    document: Any = BALANCE.fold_all(events)
    assert BALANCE.sound(5, document)
    assert BALANCE.sound(3 * ERA + 5, document)
    assert not BALANCE.sound(6, document)
    assert not BALANCE.sound(5, {**document, "version": 4})
    assert not BALANCE.sound(5, {**document, "extra": 1})
    assert not BALANCE.sound(5, {k: v for k, v in document.items() if k != "owner"})
    assert not BALANCE.sound(5, {**document, "balance": "1"})
    assert not BALANCE.sound(5, None)
    assert not BALANCE.sound(0, {**document, "version": 0})


@pytest.mark.parametrize(
    "nonsense",
    [
        {"_id": 5},
        {"version": 2.0},
        {"slot": 5.0},
        {"body": {"money": -1}},
        {"body": {"money": 2**53}},
        {"body": {"money": True}},
        {"kind": ["MoneyDeposited"]},
        {"kind": OWNER_UPDATED, "body": {"owner": "x" * 10_001}},
    ],
    ids=lambda each: str(each)[:40],
)
@pytest.mark.parametrize("projection", [BALANCE, STATEMENT], ids=repr)
def test_nonsense_in_an_events_place_is_not_folded(
    projection: Projection, nonsense: dict[str, Any]
) -> None:
    events: list[Any] = history(ACCOUNT, 1)
    before = projection.fold_all(events)
    event: Any = {**new_event(ACCOUNT, 2, DEPOSITED, {"money": 1}), **nonsense}
    if projection is BALANCE or event["kind"] != OWNER_UPDATED:
        with pytest.raises(Unfoldable):
            projection.fold(before, event)
