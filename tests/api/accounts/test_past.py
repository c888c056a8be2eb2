"""Accounts as they were, by version and by time, and their events page by page, over HTTP."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import quote

import pytest
from ulid import ULID

from api.accounts.app import create_app
from pipeline.banking.events import FROZEN
from pipeline.eventstore import EventStore
from pipeline.model.events import Event, new_event, rfc3339
from pipeline.support.settings import Settings
from tests.accounts import fold
from tests.accounts import shown as answered
from tests.bank import history
from tests.harness import cases
from tests.services import NOBODY, Client, problem, serving

START = datetime(2026, 3, 1, 12)
SECONDS = [0, 10, 10, 5, 20, 18, 30, 30, 25]
"""When the events of `skewed` happened, by the clocks of those who wrote them."""


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        yield client


async def stored(store: EventStore, events: Sequence[Event]) -> str:
    for event in events:
        await store.append(event)
    return events[0]["account_id"]


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def skewed(seconds: Sequence[float] = SECONDS) -> list[Event]:
    """A history whose times go to and fro."""
    events = history(str(ULID()), len(seconds), seed=3)
    return [
        cast(Event, {**event, "created_at": after(at)})
        for event, at in zip(events, seconds, strict=True)
    ]


def shown(events: Sequence[Event]) -> dict[str, Any]:
    """The answer for an account with these events."""
    return answered(fold(events[0]["account_id"], events))


async def ask(bank: Client, path: str) -> dict[str, Any]:
    async with bank.get(path) as answer:
        assert answer.status == 200, await answer.text()
        document: dict[str, Any] = await answer.json()
    return document


async def test_each_version_is_the_fold_of_its_events(bank: Client, store: EventStore) -> None:
    events = history(str(ULID()), 9)
    account_id = await stored(store, events)
    for version in range(1, 10):
        async with bank.get(f"/{account_id}?version={version}") as answer:
            assert await answer.json() == shown(events[:version])
            assert answer.headers["ETag"] == f'"{version}"'
    assert await ask(bank, f"/{account_id}") == shown(events)
    for beyond in (10, 1000, 2**31):
        async with bank.get(f"/{account_id}?version={beyond}") as answer:
            document = await problem(answer, 404, "version-not-found")
        assert document["account"] == account_id


async def test_a_time_shows_all_up_to_the_first_event_that_is_later(
    bank: Client, store: EventStore
) -> None:
    """The rule told once more: a whole beginning of the history, and nothing in it from later."""
    events = skewed()
    account_id = await stored(store, events)
    seen = []
    for tenths in range(0, 320, 5):
        at = after(tenths / 10)
        later = [event["created_at"] > at for event in events]
        expected = events[: later.index(True)] if any(later) else events
        assert await ask(bank, f"/{account_id}?at={at.isoformat()}Z") == shown(expected)
        seen.append(len(expected))
    assert seen == sorted(seen)
    assert set(seen) == {1, 4, 6, 9}


async def test_a_time_is_inclusive_and_may_have_an_offset(bank: Client, store: EventStore) -> None:
    events = skewed([0, 1, 2])
    account_id = await stored(store, events)
    for at, version in (
        ("2026-03-01T12:00:01Z", 2),
        ("2026-03-01t12:00:01z", 2),
        ("2026-03-01T12:00:01.000000000Z", 2),
        ("2026-03-01T12:00:00.999Z", 1),
        ("2026-03-01T14:30:01+02:30", 2),
        ("2026-02-28T23:00:01-13:00", 2),
        ("9999-12-31T23:59:59Z", 3),
    ):
        assert (await ask(bank, f"/{account_id}?at={quote(at)}"))["version"] == version


async def test_what_was_shown_for_a_time_that_is_past_stays(
    bank: Client, store: EventStore
) -> None:
    """Once an event is later than a time, no clock that is slow changes what was then."""
    events = skewed([0, 10, 20])
    account_id = await stored(store, events)
    then = await ask(bank, f"/{account_id}?at={rfc3339(after(15))}")
    late = new_event(account_id, 4, "MoneyDeposited", {"money": 1})
    await store.append({**late, "created_at": after(12)})
    assert await ask(bank, f"/{account_id}?at={rfc3339(after(15))}") == then
    assert (await ask(bank, f"/{account_id}?at={rfc3339(after(20))}"))["version"] == 4


async def test_before_it_was_opened_there_is_no_account(bank: Client, store: EventStore) -> None:
    account_id = await stored(store, skewed([5, 0]))
    for at in (0, 4.999):
        async with bank.get(f"/{account_id}?at={rfc3339(after(at))}") as answer:
            document = await problem(answer, 404, "account-not-found")
        assert document["account"] == account_id
    assert (await ask(bank, f"/{account_id}?at={rfc3339(after(5))}"))["version"] == 2


@cases("path", ["?version=1", "?at=2026-03-01T12:00:00Z", "/events", ""])
async def test_nobody_has_no_past(bank: Client, path: str) -> None:
    async with bank.get(f"/{NOBODY}{path}") as answer:
        await problem(answer, 404, "account-not-found")


@cases(
    "wrong",
    [
        "version=0",
        "version=-1",
        "version=1.0",
        "version=one",
        "version=",
        "version=99999999999",
        "version=1&version=1",
        "version=1&at=2026-03-01T12:00:00Z",
        "at=",
        "at=yesterday",
        "at=2026-03-01",
        "at=2026-03-01T12:00:00",
        "at=2026-03-01 12:00:00Z",
        "at=20260301T120000Z",
        "at=2026-02-30T12:00:00Z",
        "at=2026-03-01T25:00:00Z",
        "at=2026-03-01T12:00:00+02:00",  # a + that is not escaped is a space
        "at=0001-01-01T00:00:00%2B14:00",
        "at=٢٠٢٦-03-01T12:00:00Z",
        "at=1772366400",
        "when=2026-03-01T12:00:00Z",
    ],
)
async def test_a_question_that_is_none(bank: Client, wrong: str) -> None:
    async with bank.get(f"/{NOBODY}?{wrong}") as answer:
        await problem(answer, 400, "invalid-input")


async def test_events_come_page_by_page_as_they_are_stored(bank: Client, store: EventStore) -> None:
    events = history(str(ULID()), 23)
    frozen = new_event(events[0]["account_id"], 24, FROZEN, {"reason": "asked for"})
    events += [cast(Event, {**frozen, "schema": 1, "body": {}})]
    account_id = await stored(store, events)
    expected = [{**event, "created_at": rfc3339(event["created_at"])} for event in events]
    assert await ask(bank, f"/{account_id}/events") == {"data": expected, "has_more": False}
    for limit in (1, 5, 6, 23, 24, 25, 1000):
        got: list[dict[str, Any]] = []
        more = True
        while more:
            after_ = got[-1]["version"] if got else 0
            page = await ask(bank, f"/{account_id}/events?after={after_}&limit={limit}")
            assert 0 < len(page["data"]) <= limit
            got += page["data"]
            more = page["has_more"]
        assert got == expected
    for beyond in (24, 5000):
        page = await ask(bank, f"/{account_id}/events?after={beyond}")
        assert page == {"data": [], "has_more": False}


async def test_a_hundred_events_make_a_page_unless_told_otherwise(
    bank: Client, store: EventStore
) -> None:
    account_id = await stored(store, history(str(ULID()), 101))
    page = await ask(bank, f"/{account_id}/events")
    assert ([event["version"] for event in page["data"]], page["has_more"]) == (
        list(range(1, 101)),
        True,
    )


async def test_a_hole_in_a_history_hides_nothing(bank: Client, store: EventStore) -> None:
    """Somebody deleted events by hand: the account is unreadable, what is left can be seen."""
    events = history(str(ULID()), 40)
    account_id = await stored(store, events[:5] + events[30:])
    page = await ask(bank, f"/{account_id}/events?limit=10")
    assert [event["version"] for event in page["data"]] == [1, 2, 3, 4, 5, 31, 32, 33, 34, 35]
    assert page["has_more"]
    async with bank.get(f"/{account_id}") as answer:
        await problem(answer, 503, "account-unreadable")
    assert (await ask(bank, f"/{account_id}?version=5"))["version"] == 5


@cases("wrong", ["limit=0", "limit=1001", "limit=-1", "after=-1", "after=x", "before=1"])
async def test_a_page_that_is_none(bank: Client, wrong: str) -> None:
    async with bank.get(f"/{NOBODY}/events?{wrong}") as answer:
        await problem(answer, 400, "invalid-input")
