"""Snapshots: a long account loads like a short one, and whatever they hold, no balance is wrong."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import bson
import pymongo
import pytest
from bson.datetime_ms import DatetimeMS
from pymongo.collection import Collection
from ulid import ULID

from api.accounts.app import create_app
from pipeline.banking.account import ACCOUNT, Account
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import DEPOSITED
from pipeline.commands import AggregateUnreadable, Versioned
from pipeline.commands import histories as folding
from pipeline.commands import snapshots as stored
from pipeline.commands.snapshots import EVERY
from pipeline.eventstore import EventStore
from pipeline.eventstore.snapshots import AT_ONCE
from pipeline.model.aggregate import Aggregate
from pipeline.model.events import Event, new_event
from pipeline.model.personal import Subject
from pipeline.support.settings import Settings
from tests.accounts import fold
from tests.bank import history
from tests.harness import eventually, rounds
from tests.services import Client, serving

Documents = Collection[dict[str, Any]]
LENGTH = 150
START = datetime(2026, 3, 1, 12)


@pytest.fixture
def database(settings: Settings) -> Iterator["pymongo.database.Database[dict[str, Any]]"]:
    """The store, to fill and to damage by hand."""
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False) as client:
        yield client[settings.mongodb_database]


@pytest.fixture
def events(database: "pymongo.database.Database[dict[str, Any]]") -> Documents:
    return database["events"]


@pytest.fixture
def snapshots(database: "pymongo.database.Database[dict[str, Any]]") -> Documents:
    return database["snapshots"]


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        yield client


def histories_of(store: EventStore, **options: Any) -> folding.Histories[Account]:
    return folding.Histories(ACCOUNT, store, **options)


def snapshot_of(state: Versioned[Account]) -> dict[str, Any]:
    snapshot = stored.snapshot_of(ACCOUNT, state)
    assert snapshot is not None
    return snapshot


def trusted(snapshot: Any) -> Versioned[Account] | None:
    return stored.trusted(ACCOUNT, snapshot)


def insert(events: Documents, history_: list[Event]) -> str:
    """Store a history, as quickly as that goes."""
    for first in range(0, len(history_), 1000):
        events.insert_many([dict(event) for event in history_[first : first + 1000]])
    return history_[0]["account_id"]


async def kept(snapshots: Documents, state: Versioned[Account], key: Subject | None = None) -> None:
    """Wait until the account's snapshot is of this state. `key`: of one that is encrypted."""

    def there() -> bool:
        return trusted(stored.shown(snapshots.find_one({"_id": state.id}), key)) == state

    await eventually(there, message=f"a snapshot of version {state.version}")


def state_of(length: int = LENGTH) -> Versioned[Account]:
    events = history(str(ULID()), length)
    return fold(events[0]["account_id"], events)


# ------------------------------------------------------------------ pure


def test_what_was_taken_is_believed_as_it_was() -> None:
    state = state_of()
    assert trusted(snapshot_of(state)) == state


@pytest.mark.parametrize("name", sorted(snapshot_of(state_of())))
@pytest.mark.parametrize("value", [None, 7, "7", 1.5, True, {}, [], b"7", "missing"])
def test_no_damage_is_believed(name: str, value: object) -> None:
    snapshot = snapshot_of(state_of())
    damaged = {**snapshot, name: value}
    if value == "missing":
        del damaged[name]
    assert trusted(damaged) is None
    for part in (part for part, there in snapshot["state"].items() if there != value):
        assert trusted({**snapshot, "state": {**snapshot["state"], part: value}}) is None
    assert trusted({**snapshot, "more": value}) is None


def test_nothing_and_what_is_empty_are_no_snapshot() -> None:
    assert trusted(None) is None
    assert trusted({}) is None


def of_another_kind(**options: Any) -> Aggregate[Any, Account]:
    """The account, but for these."""
    same = {
        "initial": ACCOUNT.initial,
        "decide": ACCOUNT.decide,
        "evolve": ACCOUNT.evolve,
        "kinds": ACCOUNT.schemas,
        "upcasters": ACCOUNT.upcasters,
    }
    return Aggregate("account", **{**same, **options})


def test_a_snapshot_is_of_one_fold_and_of_the_forms_it_knows() -> None:
    snapshot = snapshot_of(state_of())
    assert stored.trusted(of_another_kind(), snapshot) == trusted(snapshot) is not None
    more = {**ACCOUNT.upcasters, (DEPOSITED, 1): lambda event: dict(event["body"])}
    assert stored.trusted(of_another_kind(upcasters=more), snapshot) is None
    assert stored.trusted(of_another_kind(version=2), snapshot) is None
    assert stored.trusted(of_another_kind(kinds={*ACCOUNT.schemas, "New"}), snapshot) is None


def test_snapshots_of_banks_from_before_are_of_the_present_fold() -> None:
    """As it is written since there are holds and owners can be forgotten; what changes it makes
    each long account slow once."""
    assert snapshot_of(state_of())["fold"] == "1-5b3492b8c5132a19c735dd31"


# ------------------------------------------------------------------ when they are taken


async def test_commands_leave_a_snapshot_now_and_then(
    bank: Client, store: EventStore, snapshots: Documents
) -> None:
    async with bank.post("/create", json={"owner": "Ada", "money": 0}) as answer:
        account_id = (await answer.json())["id"]
    for _ in range(EVERY + 5):
        async with bank.post("/deposit", json={"id": account_id, "money": 1}) as answer:
            assert answer.status == 200
    _, key = await store.snapshot_and_keys(account_id)
    await kept(snapshots, fold(account_id, (await store.load(account_id))[:EVERY]), key)
    assert (await histories_of(store).present(account_id)).state.balance == EVERY + 5


async def test_a_long_load_leaves_one_a_short_one_does_not(
    store: EventStore, events: Documents, snapshots: Documents
) -> None:
    short = insert(events, history(str(ULID()), EVERY))
    long = insert(events, history(str(ULID()), EVERY + 1))
    histories = histories_of(store)
    for account_id in (short, long):
        await histories.at_version(account_id, EVERY)
        state = await histories.present(account_id)
    await kept(snapshots, state)
    assert snapshots.count_documents({}) == 1


async def test_nobody_waits_for_a_snapshot_and_not_too_many_are_under_way(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, stuck = set(), asyncio.Event()

    async def replace_one(where: dict[str, Any], *_: Any, **__: Any) -> None:
        under_way.add(where["_id"])
        await stuck.wait()

    monkeypatch.setattr(
        "pipeline.eventstore.driver.AsyncIOMotorCollection.replace_one",
        lambda _, *args, **kwargs: replace_one(*args, **kwargs),
    )
    states = [state_of(5) for _ in range(3 * AT_ONCE)]
    for state in states:
        for _ in range(2):
            store.snapshots.keep(snapshot_of(state))
    await eventually(lambda: len(under_way) == AT_ONCE)
    assert under_way == {state.id for state in states[:AT_ONCE]}
    stuck.set()
    await store.snapshots.close()


async def test_one_that_bson_lacks_is_told(
    store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.snapshots.keep({"_id": "huge", "state": {"balance": 2**63}})
    await store.snapshots.close()
    assert "No snapshot of account huge can be stored" in caplog.text
    assert await store.snapshots.find("huge") is None


async def test_closing_without_mongodb_takes_no_snapshot_along(settings: Settings) -> None:
    gone = EventStore(settings.mongodb_url, settings.mongodb_database)
    gone.snapshots.keep(snapshot_of(state_of(5)))
    gone._client.close()
    await gone.close()


# ------------------------------------------------------------------ what they hold

Damage = Callable[[Documents, str], object]


def change(**fields: Any) -> Damage:
    return lambda snapshots, account_id: snapshots.update_one({"_id": account_id}, {"$set": fields})


def forge(**fields: Any) -> Damage:
    """With a sound checksum and another balance, as if it were of another history."""

    def forged(snapshots: Documents, account_id: str) -> None:
        state = trusted(snapshots.find_one({"_id": account_id}))
        assert state is not None
        richer = Account(state.state.owner, 10**9, state.state.status)
        snapshots.replace_one(
            {"_id": account_id}, snapshot_of(replace(state, state=richer, **fields))
        )

    return forged


def of_another(snapshots: Documents, account_id: str) -> None:
    other = fold(account_id, history(account_id, LENGTH, seed=7))
    snapshots.replace_one({"_id": account_id}, snapshot_of(other))


DAMAGE: dict[str, Damage] = {
    "nothing": lambda *_: None,
    "missing": lambda snapshots, account_id: snapshots.delete_one({"_id": account_id}),
    "empty": lambda snapshots, account_id: snapshots.replace_one({"_id": account_id}, {}),
    "another balance": change(**{"state.balance": 10**9}),
    "no number": change(**{"state.balance": "10"}),
    "another status": change(**{"state.status": "closed"}),
    "no state": change(state=7),
    "no version": change(version="x"),
    "a version that is not there": change(version=LENGTH + 50),
    "an older version": change(version=LENGTH - 20),
    "a checksum": change(checksum="0" * 24),
    "another fold": change(fold="0-0"),
    "forged for a later version": forge(version=LENGTH + 50),
    "forged for an earlier version": forge(version=LENGTH - 20),
    "forged for another event": forge(event_id=str(ULID())),
    "of another history": of_another,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_no_snapshot_makes_a_balance_wrong(
    settings: Settings, store: EventStore, events: Documents, snapshots: Documents, damage: Damage
) -> None:
    history_ = history(str(ULID()), LENGTH)
    account_id, true = insert(events, history_), fold(history_[0]["account_id"], history_)
    assert await histories_of(store).present(account_id) == true
    await kept(snapshots, true)
    damage(snapshots, account_id)
    histories = histories_of(store, remembered=0)
    for version in (LENGTH - 30, LENGTH - 1, LENGTH):
        state = await histories.at_version(account_id, version)
        assert state == fold(account_id, history_[:version])
    assert await histories.at_time(account_id, datetime.max) == true
    too_much = {"id": account_id, "money": true.state.balance + 1}
    async with serving(create_app(settings)) as bank:
        async with bank.post("/withdraw", json=too_much) as answer:
            assert answer.status == 422
        async with bank.post("/withdraw", json={**too_much, "money": true.state.balance}) as answer:
            after = await answer.json()
        assert (after["balance"], after["version"]) == (0, LENGTH + 1)
        async with bank.get(f"/{account_id}") as answer:
            assert await answer.json() == after


@pytest.mark.parametrize("damage", ["missing", "another balance", "of another history"])
async def test_a_wrong_snapshot_is_written_anew_by_the_next_load(
    store: EventStore, events: Documents, snapshots: Documents, damage: str
) -> None:
    account_id = insert(events, history(str(ULID()), LENGTH))
    histories = histories_of(store, remembered=0)
    state = await histories.present(account_id)
    await kept(snapshots, state)
    DAMAGE[damage](snapshots, account_id)
    assert await histories.present(account_id) == state
    await kept(snapshots, state)


async def test_a_stale_one_is_only_where_folding_begins(
    store: EventStore, events: Documents, snapshots: Documents
) -> None:
    history_ = history(str(ULID()), LENGTH + 60)
    account_id = insert(events, history_)
    snapshots.insert_one(snapshot_of(fold(account_id, history_[:LENGTH])))
    assert await histories_of(store).present(account_id) == fold(account_id, history_)


@pytest.mark.parametrize("remembered", [0, 10])
async def test_the_past_before_a_snapshot_is_not_told_by_it(
    store: EventStore, events: Documents, snapshots: Documents, remembered: int
) -> None:
    """One event's clock was fast: whatever comes after it is not shown for a time before that."""
    history_ = history(str(ULID()), LENGTH)
    for event in history_:
        event["created_at"] = START + timedelta(seconds=event["version"])
    history_[99]["created_at"] = START + timedelta(seconds=120)
    account_id, true = insert(events, history_), fold(history_[0]["account_id"], history_)
    histories = histories_of(store, remembered=remembered)
    assert await histories.present(account_id) == true
    await kept(snapshots, true)
    snapshots.replace_one({"_id": account_id}, snapshot_of(fold(account_id, history_[:110])))
    for second in (1, 50, 99, 100, 115, 119, 120, 121, LENGTH - 1, LENGTH, LENGTH + 1):
        version = second if second < 100 else 99 if second < 120 else min(second, LENGTH)
        state = await histories.at_time(account_id, START + timedelta(seconds=second))
        assert state == fold(account_id, history_[:version]), second
    for version in (1, 99, LENGTH - 1, LENGTH):
        state = await histories.at_version(account_id, version)
        assert state == fold(account_id, history_[:version])


async def test_a_hole_in_a_long_history_is_seen(store: EventStore, events: Documents) -> None:
    history_ = history(str(ULID()), 3_010)
    account_id = insert(events, history_[:2_000] + history_[3_005:])
    histories = histories_of(store)
    with pytest.raises(AggregateUnreadable, match="version 3006 after 2000"):
        await histories.present(account_id)
    assert await histories.at_version(account_id, 1_999) == fold(account_id, history_[:1_999])


async def test_a_time_beyond_all_years_stops_nobody(store: EventStore) -> None:
    """By hand any number of milliseconds can be stored as a time."""
    event = history(str(ULID()), 1)[0]
    stored = bson.encode({**event, "created_at": DatetimeMS(2**60)})
    read: Any = bson.decode(stored, store._events.codec_options)
    assert fold(event["account_id"], [read]).state.balance == event["body"]["money"]
    assert BALANCE.replay([read]).poison is not None


async def test_what_was_loaded_once_is_not_read_again(
    store: EventStore, events: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    history_ = history(str(ULID()), 40)
    account_id = insert(events, history_[:30])
    histories = histories_of(store)
    await histories.present(account_id)
    insert(events, history_[30:])
    walked, walk = list[int](), store.walk

    def noted(account_id: str, *, after: int = 0, **options: Any) -> Any:
        walked.append(after)
        return walk(account_id, after=after, **options)

    monkeypatch.setattr(store, "walk", noted)
    assert await histories.present(account_id) == fold(account_id, history_)
    assert await histories.at_version(account_id, 35) == fold(account_id, history_[:35])
    assert walked == [29, 0]


@pytest.mark.parametrize("remembered", [0, 10])
async def test_a_history_that_was_rolled_back_takes_what_was_kept_of_it_along(
    store: EventStore, events: Documents, snapshots: Documents, remembered: int
) -> None:
    """What was loaded before a failover may be no more afterwards."""
    history_ = history(str(ULID()), LENGTH)
    account_id = insert(events, history_)
    histories = histories_of(store, remembered=remembered)
    await kept(snapshots, await histories.present(account_id))
    events.delete_many({"account_id": account_id, "version": {"$gte": LENGTH - 10}})
    anew = history_[: LENGTH - 11]
    assert await histories.present(account_id) == fold(account_id, anew)
    for version in range(LENGTH - 10, LENGTH + 3):
        anew.append(new_event(account_id, version, DEPOSITED, {"money": 1000}))
        events.insert_one(dict(anew[-1]))
    assert await histories.present(account_id) == fold(account_id, anew)


# ------------------------------------------------------------------ what they are for


@pytest.mark.timeout(900)
async def test_a_long_account_loads_like_a_short_one(
    store: EventStore, events: Documents, snapshots: Documents
) -> None:
    """With its snapshot, in the middle between two: side by side, by the median."""
    length = rounds(5_000, 100_000)
    short = insert(events, history(str(ULID()), 100))
    events_ = history(str(ULID()), length)
    long = insert(events, events_)
    histories = histories_of(store, remembered=0)
    began = time.perf_counter()
    state = await histories.present(long)
    without = time.perf_counter() - began
    await kept(snapshots, state)
    snapshots.replace_one({"_id": long}, snapshot_of(fold(long, events_[: length - EVERY // 2])))

    async def seconds(load: Awaitable[Versioned[Account]]) -> float:
        began = time.perf_counter()
        await load
        return time.perf_counter() - began

    times: dict[str, list[float]] = {short: [], long: []}
    for _ in range(15):
        for account_id in (short, long):
            times[account_id].append(await seconds(histories.present(account_id)))
    assert await histories.present(long) == state
    with_one = statistics.median(times[long])
    assert with_one <= 3 * statistics.median(times[short])
    assert with_one <= without / 3
