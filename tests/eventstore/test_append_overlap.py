"""Two inserts in flight: of different accounts, each with its own outcome, whatever the other's."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.eventstore import AppendResult, EventStore, VersionConflict
from pipeline.eventstore.append_queue import LEAST, MOST
from pipeline.model.events import SLOTS, Event, new_event
from tests.harness import eventually

MANY = 4 * LEAST


class Insert:
    """One that has been sent, and does nothing until it is let go."""

    def __init__(self, documents: Sequence[Any]) -> None:
        self.accounts = [document["account_id"] for document in documents]
        self.go = asyncio.Event()
        self.loses_reply = False


class Inserts:
    """Every insert of a store, held from when it is sent; none is held any more once `free`."""

    def __init__(self, store: EventStore, patch: pytest.MonkeyPatch) -> None:
        self.sent: list[Insert] = []
        self.in_flight: list[Insert] = []
        self.most, self.free = 0, False
        self._real = store._events.insert_many
        patch.setattr(store._events, "insert_many", self._insert)

    async def _insert(self, documents: Sequence[Any], **options: Any) -> Any:
        insert = Insert(documents)
        others = [account for each in self.in_flight for account in each.accounts]
        assert not {*insert.accounts} & {*others}
        self.sent.append(insert)
        self.in_flight.append(insert)
        self.most = max(self.most, len(self.in_flight))
        try:
            if not self.free:
                await insert.go.wait()
            result = await self._real(documents, **options)
        finally:
            self.in_flight.remove(insert)
        if insert.loses_reply:
            raise AutoReconnect("the reply was lost")
        return result

    async def two(self) -> tuple[Insert, Insert]:
        await eventually(lambda: len(self.in_flight) == MOST)
        first, second = self.in_flight
        return first, second

    def release(self) -> None:
        self.free = True
        for insert in self.sent:
            insert.go.set()


@pytest.fixture
def inserts(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> Inserts:
    return Inserts(store, monkeypatch)


def account(number: int) -> str:
    return f"{number:026d}"


def event(account_id: str, version: int) -> Event:
    return new_event(account_id, version, DEPOSITED if version > 1 else CREATED, {"money": 1})


def appended(store: EventStore, events: Sequence[Event]) -> list[asyncio.Task[AppendResult]]:
    return [asyncio.create_task(store.append_row([each])) for each in events]


async def stored(store: EventStore) -> Counter[tuple[str, int]]:
    lists = [events async for events in store.replay(range(SLOTS))]
    return Counter((each["account_id"], each["version"]) for events in lists for each in events)


async def test_what_waits_is_halved(store: EventStore, inserts: Inserts) -> None:
    rows = appended(store, [event(account(n), 1) for n in range(MANY)])
    first, second = await inserts.two()
    assert [len(each.accounts) for each in (first, second)] == [MANY // 2] * 2
    second.go.set()  # its callers need not wait for the first one's
    assert [*await asyncio.gather(*rows[MANY // 2 :])] == [AppendResult(1)] * (MANY // 2)
    assert not any(row.done() for row in rows[: MANY // 2])
    inserts.release()
    await asyncio.gather(*rows)
    assert len(inserts.sent) == 2


async def test_what_one_insert_leaves_does_not_wait_for_its_end(
    store: EventStore, inserts: Inserts
) -> None:
    """Although nobody adds a row after it has begun."""
    accounts = [account(n) for n in range(2 * LEAST - 1)]
    rows = appended(store, [event(each, 1) for each in accounts])
    await eventually(lambda: len(inserts.in_flight) == 1)
    rows += appended(store, [event(each, 2) for each in accounts])
    rows += appended(store, [event(account(MANY), 1)])
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(inserts.in_flight) == 1, "they wait for the rows before them"
    inserts.in_flight[0].go.set()
    first, second = await inserts.two()
    assert len(first.accounts) + len(second.accounts) == 2 * LEAST
    closing = asyncio.create_task(store._appender.close())
    await asyncio.sleep(0)
    first.go.set()
    await eventually(lambda: first not in inserts.in_flight)
    assert not (await asyncio.wait({closing}, timeout=0.1))[0], "it waits for both"
    inserts.release()
    await closing
    assert all(row.done() for row in rows)
    assert {*await asyncio.gather(*rows)} == {AppendResult(1)}


async def test_a_few_wait_for_the_insert_in_flight(store: EventStore, inserts: Inserts) -> None:
    """A small insert beside another one costs more than it gains, and a third one never begins."""
    early = appended(store, [event(account(0), 1)])
    await eventually(lambda: len(inserts.in_flight) == 1)
    late = appended(store, [event(account(n), 1) for n in range(1, LEAST)])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(inserts.sent) == 1
    late += appended(store, [event(account(n), 1) for n in range(LEAST, MANY)])
    await inserts.two()
    assert len(inserts.in_flight) == MOST
    inserts.release()
    await asyncio.gather(*early, *late)
    assert inserts.most == MOST


async def test_rows_of_one_account_follow_one_another(store: EventStore, inserts: Inserts) -> None:
    """`Inserts` looks at each one; the second versions come while the first are in flight."""
    rows = appended(store, [event(account(n), 1) for n in range(MANY)])
    await inserts.two()
    rows += appended(store, [event(account(n), 2) for n in range(MANY)])
    others = appended(store, [event(account(n), 1) for n in range(MANY, 2 * MANY)])
    inserts.in_flight[1].go.set()
    await inserts.two()
    inserts.release()
    assert {*await asyncio.gather(*rows, *others)} == {AppendResult(1)}
    found = await stored(store)
    assert set(found.values()) == {1}
    assert len(found) == 3 * MANY


async def test_a_lost_reply_beside_an_insert_that_is_stored(
    store: EventStore, inserts: Inserts
) -> None:
    """The same rows are sent once more, and every one is there once."""
    rows = appended(store, [event(account(n), 1) for n in range(MANY)])
    first, second = await inserts.two()
    first.loses_reply = True
    second.go.set()
    await asyncio.gather(*rows[MANY // 2 :])
    inserts.release()
    assert {*await asyncio.gather(*rows)} == {AppendResult(1)}
    assert inserts.sent[2].accounts == first.accounts
    assert await stored(store) == Counter({(account(n), 1): 1 for n in range(MANY)})


async def test_a_refused_row_beside_another_insert(store: EventStore, inserts: Inserts) -> None:
    inserts.free = True
    await store.append(event(account(0), 1), event(account(MANY), 1))
    inserts.free = False
    rows = appended(store, [event(account(n), 1) for n in range(MANY)])
    first, _ = await inserts.two()
    first.go.set()
    refused, *others = await asyncio.gather(*rows[: MANY // 2])
    assert isinstance(refused.error, VersionConflict)
    assert {*others} == {AppendResult(1)}
    inserts.release()
    assert {*await asyncio.gather(*rows[MANY // 2 :])} == {AppendResult(1)}
    assert set((await stored(store)).values()) == {1}


async def test_callers_that_have_gone_leave_the_other_insert_alone(
    store: EventStore, inserts: Inserts
) -> None:
    rows = appended(store, [event(account(n), 1) for n in range(MANY)])
    first, second = await inserts.two()
    for row in rows[: MANY // 2]:
        row.cancel()
    second.go.set()
    assert {*await asyncio.gather(*rows[MANY // 2 :])} == {AppendResult(1)}
    again = appended(store, [event(account(n), 2) for n in range(MANY // 2)])
    await asyncio.sleep(0)
    first.go.set()
    inserts.release()
    assert {*await asyncio.gather(*again)} == {AppendResult(1)}
    assert set((await stored(store)).values()) == {1}
