"""The lag of a partition: counted exactly, or not known and why; never 0 for what can't be seen."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pymongo
import pytest
from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from ulid import ULID

from pipeline.banking.balance import BALANCE
from pipeline.banking.events import CREATED
from pipeline.coordination.partitioning import Partitioning
from pipeline.eventstore import ChangeBacklog, EventStore, HistoryLost, StoreUnavailable
from pipeline.eventstore.change_backlog import _reached
from pipeline.messaging import TOKEN_HEADER, StoredMessage, StreamState
from pipeline.model.events import new_event, partition_of
from pipeline.operations.status.effective_position import effective_position
from pipeline.operations.status.lag import (
    SHORTEST,
    Lag,
    WaitingEvents,
    lag,
    resume_token,
    unforwarded,
)
from pipeline.operations.status.probe import Unknown, probe
from pipeline.search import Generation
from pipeline.support.settings import Settings
from pipeline.support.shared_reading import SharedReading
from pipeline.tables.checkpoint import Checkpoint
from tests.bank import accounts, append
from tests.load import Load
from tests.ports import free_port

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
STREAM = StreamState("created", 1, 100, 100)
LIVE = Generation(3, "uuid", BALANCE)
CLAIM = Checkpoint(1, 4, 0, 3, "uuid", "created", 60, 40, 7, None, "w1.ulid")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


# ---------------------------------------------------------------- the sum of the two


def test_nothing_waits() -> None:
    assert lag(WaitingEvents(), WaitingEvents(), NOW) == Lag(0, 0.0, None)


def test_what_waits_is_added_up_and_as_old_as_its_oldest() -> None:
    assert lag(WaitingEvents(2, ago(1)), WaitingEvents(3, ago(9)), NOW) == Lag(5, 9.0, None)
    assert lag(WaitingEvents(), WaitingEvents(1, ago(4)), NOW) == Lag(1, 4.0, None)


def test_no_clock_makes_it_0_seconds_while_anything_waits() -> None:
    assert lag(WaitingEvents(1, ago(-60)), WaitingEvents(), NOW) == Lag(1, SHORTEST, None)


def test_what_was_not_counted_to_the_end_is_at_least_that() -> None:
    found = lag(WaitingEvents(1200, ago(30), more=True), WaitingEvents(34, ago(60)), NOW)
    assert found == Lag(None, 60.0, "at least 1,234")
    assert lag(WaitingEvents(more=True), WaitingEvents(), NOW) == Lag(None, None, "at least 0")


def test_one_unknown_makes_the_sum_unknown_and_each_reason_is_told_once() -> None:
    down, lost = Unknown("MongoDB does not answer", "MongoDB"), Unknown("lost")
    assert lag(down, WaitingEvents(3, ago(1)), NOW) == Lag(None, None, down.why)
    assert lag(WaitingEvents(), lost, NOW) == Lag(None, None, "lost")
    assert lag(down, lost, NOW) == Lag(None, None, "MongoDB does not answer; lost")
    assert lag(lost, lost, NOW) == Lag(None, None, "lost")


# ---------------------------------------------------------------- what is not forwarded


def test_unforwarded_events_by_partition_without_those_that_never_will_be() -> None:
    events = [new_event(str(ULID()), 1, CREATED, {"owner": "Ada", "money": 1}) for _ in range(40)]
    garbage: list[Any] = [
        {"_id": "x", "created_at": datetime(2020, 1, 1)},
        {**events[0], "_id": 5, "created_at": datetime(2020, 1, 1)},
        {**events[0], "slot": "3", "created_at": datetime(2020, 1, 1)},
        {**events[0], "version": 0, "created_at": datetime(2020, 1, 1)},
    ]
    found = unforwarded(ChangeBacklog([*events, *garbage], True), 4)
    for partition, waiting in enumerate(found):
        mine = [e["created_at"] for e in events if partition_of(e["slot"], 4) == partition]
        oldest = min(mine).replace(tzinfo=UTC) if mine else None
        assert waiting == WaitingEvents(len(mine), oldest, more=False)
    assert all(each.more for each in unforwarded(ChangeBacklog(events, False), 4))


@pytest.mark.parametrize(
    ("last", "known"),
    [
        (StoredMessage("balance.1", b"", {TOKEN_HEADER: "token"}, 100), True),
        (StoredMessage("balance.1", b"", {TOKEN_HEADER: "token"}, 101), True),  # came in between
        (
            StoredMessage("balance.1", b"", {TOKEN_HEADER: "token"}, 99),
            False,
        ),  # the last was deleted
        (StoredMessage("balance.1", b"", {}, 100), False),
        (None, False),
    ],
)
def test_the_token_must_be_in_the_very_last_message(
    last: StoredMessage | None, known: bool
) -> None:
    assert isinstance(resume_token(last, STREAM), str if known else Unknown)


# ---------------------------------------------------------------- how far the index is


def position(
    claim: Checkpoint | None,
    *,
    now: Partitioning | None = None,
    live: Generation | None = LIVE,
    state: StreamState = STREAM,
) -> int | str:
    found = effective_position(
        1, now or Partitioning(4), live, state, {claim.id: claim} if claim else {}
    )
    return found.why if isinstance(found, Unknown) else found


def test_a_sound_checkpoint_is_the_position() -> None:
    assert position(CLAIM) == 60
    assert position(CLAIM, state=replace(STREAM, first=61)) == 60
    assert position(CLAIM, state=replace(STREAM, last=60)) == 60


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (position(CLAIM, live=None), "there is no index"),
        (position(None), "there is no checkpoint in the live index"),
        (
            position(CLAIM, live=Generation(4, "uuid", BALANCE)),
            "there is no checkpoint in the live index",
        ),
        (position(CLAIM, live=Generation(3, "other", BALANCE)), "is of another"),
        (position(replace(CLAIM, stream="older")), "is of another"),
        (position(CLAIM, now=Partitioning(4, at=70, before=8, last=(1,) * 8)), "is of another"),
        (position(replace(CLAIM, sequence=None, applied=None)), "claims nothing"),
        (position(replace(CLAIM, cursor=300)), "not all of it is in"),
        (position(CLAIM, state=replace(STREAM, first=62)), "has no more what follows"),
        (position(CLAIM, state=replace(STREAM, last=59)), "has no more what follows"),
    ],
)
def test_what_a_worker_would_synchronise_is_unknown(found: int | str, why: str) -> None:
    assert isinstance(found, str)
    assert found.startswith("to be backfilled from the event store: ")
    assert why in found


def test_a_partition_of_a_repartition_goes_on_where_those_before_it_ended() -> None:
    now = Partitioning(4, at=70, before=2, before_at=0, last=(65, 69))
    before = replace(CLAIM, partition=0, partitions=2, sequence=65, applied=65)
    claims = {before.id: before}
    assert effective_position(1, now, LIVE, STREAM, claims) == 70
    behind = replace(before, sequence=64)
    assert isinstance(effective_position(1, now, LIVE, STREAM, {behind.id: behind}), Unknown)


def test_a_log_that_lost_its_repartition_leaves_the_checkpoints_as_they_are() -> None:
    assert position(replace(CLAIM, at=50), now=Partitioning(4)) == 60


# ---------------------------------------------------------------- reading ahead in the store


async def token_of(store: EventStore) -> str:
    async with store.watch(None) as batches:
        return (await anext(batches)).token


async def test_unread_is_exactly_what_came_after_the_token(store: EventStore) -> None:
    await append(store, accounts(5, 3))
    token = await token_of(store)
    assert await store.change_backlog(token, most=1000, seconds=10) == ChangeBacklog([], True)
    await append(store, histories := accounts(400, 4))
    for _ in range(2):  # looking leaves nothing behind
        found = await store.change_backlog(token, most=20_000, seconds=30)
        assert found.complete
        assert ids(found) == {event["_id"] for events in histories for event in events}
    assert len(found.events) == 1600


def ids(found: ChangeBacklog) -> set[str]:
    return {event["_id"] for event in found.events}


async def test_unread_stops_at_its_cap_and_at_its_time(store: EventStore) -> None:
    token = await token_of(store)
    await append(store, accounts(600, 4))
    capped = await store.change_backlog(token, most=500, seconds=30)
    assert not capped.complete
    assert 500 <= len(capped.events) < 2400
    hasty = await store.change_backlog(token, most=20_000, seconds=0)
    assert not hasty.complete


async def test_unread_ends_while_others_write(store: EventStore) -> None:
    token, load = await token_of(store), Load(store)
    async with load.steady():
        for _ in range(10):
            before = load.acknowledged
            found = await store.change_backlog(token, most=20_000, seconds=30)
            assert found.complete
            assert len(found.events) >= before


async def test_a_creation_time_that_is_none_is_when_it_was_stored(
    store: EventStore, settings: Settings
) -> None:
    token = await token_of(store)
    event: dict[str, Any] = dict(new_event(str(ULID()), 1, CREATED, {"owner": "Ada", "money": 1}))
    event["created_at"] = "yesterday"
    with pymongo.MongoClient[Any](settings.mongodb_url, retryWrites=False) as client:
        client[settings.mongodb_database]["events"].insert_one(event)
    (waiting,) = unforwarded(await store.change_backlog(token, most=10, seconds=10), 1)
    assert waiting.events == 1
    assert waiting.oldest is not None
    assert abs(datetime.now(UTC) - waiting.oldest) < timedelta(minutes=10)


async def test_unread_of_a_history_that_is_lost(store: EventStore, settings: Settings) -> None:
    token = await token_of(store)
    with pymongo.MongoClient[Any](settings.mongodb_url, retryWrites=False) as client:
        client[settings.mongodb_database].drop_collection("events")
    await store.setup()
    with pytest.raises(HistoryLost):
        await store.change_backlog(token, most=10, seconds=10)


async def test_unread_without_a_server() -> None:
    store = EventStore(f"mongodb://127.0.0.1:{free_port()}", "bank")
    with pytest.raises(StoreUnavailable):
        await store.change_backlog("{}", most=10, seconds=10)
    await store.close()


def cursor(token: str, *times: int) -> dict[str, Any]:
    changes = [raw({"clusterTime": Timestamp(time, 1)}) for time in times]
    return {"id": 1, "nextBatch": changes, "postBatchResumeToken": raw({"_data": token})}


def raw(document: dict[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(document))


def test_when_the_present_is_reached() -> None:
    now = Timestamp(0x65000000, 5)
    assert _reached(cursor("anything"), now)
    assert not _reached(cursor("anything", 0x64FFFFFF), now)
    assert not _reached(cursor("anything", 0x65000000), now)
    assert _reached(cursor("anything", 0x64FFFFFF, 0x65000001), now)
    # An empty batch of a sharded MongoDB: the token begins with 0x82, seconds and ordinal.
    assert not _reached(cursor("8264FFFFFF0000000129295A1004"), now)
    assert not _reached(cursor("82650000000000000429295A1004"), now)
    assert _reached(cursor("82650000000000000529295A1004"), now)


# ---------------------------------------------------------------- asking


async def test_a_server_that_does_not_answer_is_named() -> None:
    async def refuses() -> None:
        raise ConnectionRefusedError("refused")

    async def is_wrong() -> None:
        raise ValueError("what is this")

    async def answers() -> str:
        return "answer"

    soon = asyncio.get_running_loop().time() + 0.05
    silent = Unknown("Redis does not answer", "Redis")
    assert await probe("Redis", refuses, soon) == silent
    assert await probe("Redis", asyncio.Event().wait, soon) == silent
    assert await probe("NATS", is_wrong, soon) == Unknown("NATS: ValueError: what is this", "NATS")
    assert await probe("NATS", answers, soon + 60) == "answer"


async def test_one_reading_serves_all_who_ask_meanwhile_and_a_moment_after() -> None:
    readings, answer = 0, asyncio.Event()

    async def read() -> int:
        nonlocal readings
        readings += 1
        await answer.wait()
        return readings

    snapshot = SharedReading(read, seconds=60)
    waiting = [asyncio.create_task(snapshot.get()) for _ in range(20)]
    await asyncio.sleep(0)
    waiting.pop().cancel()  # one who does not wait spoils it for nobody
    await asyncio.sleep(0)
    answer.set()
    assert await asyncio.gather(*waiting) == [1] * 19
    assert await snapshot.get() == 1
    assert readings == 1
    await snapshot.close()


async def test_an_old_snapshot_and_a_failed_one_are_read_anew() -> None:
    readings: list[int] = []

    async def read() -> int:
        readings.append(len(readings))
        if len(readings) == 2:
            raise ValueError("failed")
        return len(readings)

    snapshot = SharedReading(read, seconds=0)
    assert await snapshot.get() == 1
    with pytest.raises(ValueError, match="failed"):
        await snapshot.get()
    assert await snapshot.get() == 3
