"""The event store's contract, on any MongoDB (BANK_TEST_MONGODB_URL, or the embedded one)."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient, monitoring
from pymongo.collection import Collection

from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import (
    Changes,
    EventStore,
    HistoryLost,
    StoreUnavailable,
    VersionConflict,
    token_time,
)
from pipeline.eventstore import changes as change_stream
from pipeline.eventstore.append_queue import LEAST
from pipeline.model.events import SLOTS, Event, slot_of
from pipeline.support.settings import Settings
from tests.eventstore.made import account, deposit, outcomes
from tests.harness import eventually, rounds


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., EventStore]]:
    """`connect(url, database)`: a store that is closed afterwards."""
    made: list[EventStore] = []

    def make(url: str, database: str = "bank") -> EventStore:
        made.append(EventStore(url, database))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
async def store(settings: Settings, connect: Callable[..., EventStore]) -> EventStore:
    store = connect(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    return store


async def test_setup_may_run_many_times_at_once(
    settings: Settings, connect: Callable[..., EventStore]
) -> None:
    stores = [connect(settings.mongodb_url, settings.mongodb_database) for _ in range(4)]
    await asyncio.gather(*(store.setup() for store in stores))
    await asyncio.gather(*(store.setup() for store in stores))
    with MongoClient[dict[str, object]](settings.mongodb_url, retryWrites=False) as client:
        indexes = client[settings.mongodb_database]["events"].index_information()
    assert set(indexes) == {"_id_", "account_version", "idempotency_key_sparse"}
    assert indexes["account_version"]["key"] == [("slot", 1), ("account_id", 1), ("version", 1)]
    assert all(indexes[name]["unique"] for name in indexes.keys() - {"_id_"})


class Inserts(monitoring.CommandListener):
    """The sizes of the inserts that the driver sends."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name == "insert":
            self.sizes.append(len(event.command["documents"]))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@pytest.fixture
async def inserts(
    settings: Settings, connect: Callable[..., EventStore], monkeypatch: pytest.MonkeyPatch
) -> tuple[EventStore, Inserts]:
    listener = Inserts()
    # A listener for the clients made from here on; `register` would be for good.
    listeners = monitoring._LISTENERS._replace(command_listeners=[listener])
    monkeypatch.setattr(monitoring, "_LISTENERS", listeners)
    store = connect(settings.mongodb_url, settings.mongodb_database)
    monkeypatch.undo()
    await store.setup()
    return store, listener


async def test_commands_that_wait_together_are_one_insert(
    inserts: tuple[EventStore, Inserts],
) -> None:
    store, listener = inserts
    await asyncio.gather(*(store.append(deposit(account(n), 1)) for n in range(1200)))
    assert await store.count() == 1200
    assert sum(listener.sizes) == 1200
    assert max(listener.sizes) <= 500
    assert len(listener.sizes) < 10


async def test_rows_and_single_events_that_wait_together_are_one_insert(
    inserts: tuple[EventStore, Inserts],
) -> None:
    store, listener = inserts
    rows = [[deposit(account(n), v) for v in range(1, 2 + n % 3)] for n in range(2 * LEAST - 1)]
    stored = await asyncio.gather(*(store.append_row(row) for row in rows))
    assert stored == [(len(row), None) for row in rows]
    assert listener.sizes == [sum(map(len, rows))]


async def test_a_lone_command_waits_for_nobody(inserts: tuple[EventStore, Inserts]) -> None:
    store, listener = inserts
    for version in range(1, 6):
        await store.append(deposit(account(1), version))
    assert listener.sizes == [1] * 5


async def test_transfers_that_wait_together_are_one_transaction(
    inserts: tuple[EventStore, Inserts],
) -> None:
    store, listener = inserts
    pairs = [(deposit(account(2 * n), 1), deposit(account(2 * n + 1), 1)) for n in range(120)]
    assert await outcomes(*(store.append(*pair) for pair in pairs)) == [None] * 120
    assert await store.count() == sum(listener.sizes) == 240
    assert max(listener.sizes) <= 100
    assert len(listener.sizes) < 6
    listener.sizes.clear()
    for version in (2, 3):
        await store.append(deposit(account(0), version), deposit(account(1), version))
    assert listener.sizes == [2, 2], "a lone one waits for nobody"


async def test_a_transfer_that_loses_a_race_takes_no_other_along(
    store: EventStore, settings: Settings
) -> None:
    """Somebody's open transaction has written what one of them is about to write."""
    with MongoClient[Event](settings.mongodb_url, retryWrites=False) as client:
        events = client[settings.mongodb_database]["events"]
        with client.start_session() as session, session.start_transaction():
            events.insert_one(deposit(account(1), 1), session=session)
            pairs = [[deposit(account(n), 1), deposit(account(50 + n), 1)] for n in range(10)]
            *others, racing = await outcomes(*(store.append(*p) for p in [*pairs[2:], pairs[1]]))
            session.abort_transaction()
    assert others == [None] * 8
    assert isinstance(racing, VersionConflict)
    assert await store.count() == 16
    await store.append(*pairs[1])


async def test_load_many_has_every_account_in_version_order(store: EventStore) -> None:
    await asyncio.gather(*(store.append(deposit(account(n % 40), 1 + n // 40)) for n in range(120)))
    loaded = await store.load_many([*(account(n) for n in range(40)), "nobody", account(1)])
    assert loaded.pop("nobody") == []
    assert set(loaded) == {account(n) for n in range(40)}
    assert all([event["version"] for event in found] == [1, 2, 3] for found in loaded.values())


async def fill(settings: Settings, events: Iterable[Event]) -> None:
    def insert() -> None:
        with MongoClient[Event](settings.mongodb_url, retryWrites=False) as client:
            collection = client[settings.mongodb_database]["events"]
            for batch in iter(lambda: list(itertools.islice(todo, 1000)), []):
                collection.insert_many(batch, ordered=False)

    todo = iter(events)
    await asyncio.to_thread(insert)


async def test_replay_is_in_order_whole_and_bounded(store: EventStore, settings: Settings) -> None:
    big = account(77)
    everything = [deposit(account(n % 700), 1 + n // 700) for n in range(7000)]
    everything = [event for event in everything if event["account_id"] != big]
    everything += [deposit(big, version) for version in range(1, 3001)]
    await fill(settings, reversed(everything))
    seen: list[tuple[int, str, int]] = []
    async for events in store.replay(range(SLOTS)):
        assert 0 < len(events) <= 2000
        seen += [(event["slot"], event["account_id"], event["version"]) for event in events]
    assert len(seen) == len(everything)
    assert seen == sorted(seen)
    assert len(set(seen)) == len(seen)


async def test_slots_are_begun_before_they_are_read(store: EventStore, settings: Settings) -> None:
    """So that what is stored until a slot is begun is seen by whoever replays it."""
    await fill(settings, [deposit(account(n), 1) for n in range(3000)])
    begun: list[int] = []
    seen: list[tuple[int, int]] = []

    def begin(slot: int) -> None:
        with MongoClient[Event](settings.mongodb_url) as client:
            late = [deposit(account(n), 2) for n in range(3000) if slot_of(account(n)) == slot - 1]
            if late:
                client[settings.mongodb_database]["events"].insert_many(late)
        begun.append(slot)

    async for events in store.replay(range(SLOTS), begin):
        assert events[-1]["slot"] < begun[-1]
        seen += [(event["slot"], event["version"]) for event in events]
    assert begun == sorted(begun)
    assert begun[-1] == SLOTS
    last = {slot - 1 for slot in begun}
    assert {slot for slot, version in seen if version == 2} == last & {slot for slot, _ in seen}


async def test_replay_of_some_slots_and_leaving_it_early(
    store: EventStore, settings: Settings
) -> None:
    everything = [deposit(account(n), 1) for n in range(3000)]
    await fill(settings, everything)
    wanted = [3, 4, 5, 90, 700, 701, 1023]
    seen = [event async for events in store.replay(reversed(wanted)) for event in events]
    expected = sorted(
        (event for event in everything if event["slot"] in wanted),
        key=lambda event: (event["slot"], event["account_id"]),
    )
    assert seen == expected
    assert [events async for events in store.replay([])] == []
    async for _ in store.replay(range(SLOTS)):
        break
    assert slot_of(account(0)) == everything[0]["slot"]


async def test_watch_yields_inserts_in_order_and_resumes_exactly(store: EventStore) -> None:
    await store.append(deposit(account(0), 1))
    tokens: list[tuple[str, int]] = []
    seen: list[str] = []
    appended = [deposit(account(1), version) for version in range(1, 61)]
    async with store.watch(None) as batches:
        first = await anext(batches)
        assert first.events == []
        tokens.append((first.token, 0))

        async def append() -> None:
            for event in appended:
                await store.append(event)

        task = asyncio.create_task(append())
        async for changes in batches:
            seen += [event["_id"] for event in changes.events]
            tokens.append((changes.token, len(seen)))
            if len(seen) == len(appended):
                break
        await task
    assert seen == [event["_id"] for event in appended], "one writer: stored in its order"
    for token, position in tokens[:: max(1, len(tokens) // 6)]:
        assert await after(store, token, len(appended) - position) == seen[position:]


async def after(store: EventStore, token: str, number: int) -> list[str]:
    """The ids of the next `number` events after a token, and that no more come."""
    found: list[str] = []
    async with store.watch(token) as batches:
        start = await anext(batches)
        assert start.events == []
        async for changes in batches:
            found += [event["_id"] for event in changes.events]
            if len(found) >= number and not changes.events:
                return found
    raise AssertionError("unreachable")


async def nothing(batches: AsyncIterator[Changes]) -> None:
    """Read on, and see no event."""
    async for changes in batches:
        assert changes.events == []


async def test_watch_reads_whole_batches_and_both_legs_of_a_transfer(
    store: EventStore, settings: Settings
) -> None:
    async with store.watch(None) as batches:
        token = (await anext(batches)).token
    await fill(settings, (deposit(account(n), 1) for n in range(3000)))
    await store.append(deposit(account(0), 2), deposit(account(1), 2))
    sizes: list[int] = []
    legs: list[Event] = []
    async with store.watch(token) as batches:
        async for changes in batches:
            sizes.append(len(changes.events))
            legs += [event for event in changes.events if event["version"] == 2]
            if sum(sizes) == 3002:
                break
    assert max(sizes) <= 1000
    assert len([size for size in sizes if size]) < 40, "whole batches"
    assert [event["account_id"] for event in legs] == [account(0), account(1)]


async def read(batches: AsyncIterator[Changes]) -> list[Event]:
    """The events of the next batch that has some."""
    async for batch in batches:
        if batch.events:
            return batch.events
    raise AssertionError("unreachable")


async def test_changes_that_keep_coming_are_read_several_at_once(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_stream, "PACE_SECONDS", 2.0)
    async with store.watch(None) as batches:
        assert (await anext(batches)).events == []
        await store.append(deposit(account(1), 1))
        assert len(await read(batches)) == 1
        for version in range(2, 32):
            await store.append(deposit(account(1), version))
        sizes: list[int] = []
        while sum(sizes) < 30:
            sizes.append(len(await read(batches)))
    assert len(sizes) < 10


async def test_who_wants_events_of_a_kind_does_not_ask_at_each_of_another(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, more = 0, change_stream.more

    async def counted(*question: Any) -> change_stream.Cursor:
        nonlocal asked
        asked += 1
        return await more(*question)

    monkeypatch.setattr(change_stream, "more", counted)
    monkeypatch.setattr(change_stream, "EMPTY_PACE_SECONDS", 2.0)
    async with store.watch(None, ["Wanted"]) as batches:
        reading = asyncio.create_task(read(batches))
        for version in range(1, 31):
            await store.append(deposit(account(1), version))
        wanted = deposit(account(1), 31)
        wanted["kind"] = "Wanted"
        await store.append(wanted)
        assert [event["_id"] for event in await reading] == [wanted["_id"]]
    assert asked < 10


async def test_who_wants_all_events_does_not_wait_after_an_empty_batch(
    store: EventStore, events: Collection[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that stores no event may be answered with one."""
    monkeypatch.setattr(change_stream, "EMPTY_PACE_SECONDS", 3600.0)
    await store.append(deposit(account(0), 1))
    change = {"account_id": account(0)}, {"$inc": {"note": 1}}
    async with asyncio.timeout(60), store.watch(None) as batches:
        for version in range(2, 12):
            await asyncio.to_thread(events.update_one, *change)
            await asyncio.sleep(0.05)  # until it may have been answered
            await store.append(deposit(account(0), version))
            assert len(await read(batches)) == 1


async def test_neither_the_first_change_after_quiet_nor_a_backlog_is_held(
    store: EventStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_stream, "PACE_SECONDS", 3600.0)
    async with asyncio.timeout(60), store.watch(None) as batches:
        token = (await anext(batches)).token
        while (await anext(batches)).events:  # until it is quiet
            pass
        await store.append(deposit(account(0), 1))
        assert len(await read(batches)) == 1
    await fill(settings, (deposit(account(n), 1) for n in range(1, 3000)))
    async with asyncio.timeout(60), store.watch(token) as batches:
        found = 0
        while found < 3000:  # the last batch may have few: no other one is awaited
            found += len(await read(batches))


async def test_only_inserts_are_told(store: EventStore, settings: Settings) -> None:
    async with store.watch(None) as batches:
        token = (await anext(batches)).token
    await store.append(deposit(account(1), 1))
    with MongoClient[dict[str, object]](settings.mongodb_url, retryWrites=False) as client:
        collection = client[settings.mongodb_database]["events"]
        collection.update_one({"account_id": account(1)}, {"$set": {"note": "by hand"}})
        collection.delete_one({"account_id": account(1)})
    last = deposit(account(2), 1)
    await store.append(last)
    ids = await after(store, token, 2)
    assert len(ids) == 2
    assert ids[1] == last["_id"]


@pytest.mark.parametrize("token", ["", "nonsense", "{}", '{"collection": "", "after": {}}'])
async def test_what_is_no_token_is_lost_history(store: EventStore, token: str) -> None:
    with pytest.raises(HistoryLost):
        async with store.watch(token):
            pass


@pytest.mark.parametrize(
    "nonsense", [None, 5, "x", [], {}, {"_data": 5}, {"_data": "82zz"}, {"_data": "00"}], ids=str
)
async def test_a_token_of_the_collection_with_nonsense_in_it_is_lost_history(
    store: EventStore, nonsense: object
) -> None:
    """Anybody may have published it. With None in it the stream would begin at now, unnoticed."""
    async with store.watch(None) as batches:
        token = json.loads((await anext(batches)).token)
    told = json.dumps({**token, "after": nonsense})
    with pytest.raises(HistoryLost):
        async with store.watch(told):
            pass
    assert token_time(told) is None


@pytest.mark.parametrize("token", ['{"collection": {"$oid": "x"}}', "[" * 100_000])
async def test_what_no_reader_of_json_takes_is_lost_history(store: EventStore, token: str) -> None:
    with pytest.raises(HistoryLost):
        async with store.watch(token):
            pass


async def test_a_collection_made_anew_is_lost_history(
    store: EventStore, settings: Settings
) -> None:
    await store.append(deposit(account(1), 1))
    async with store.watch(None) as batches:
        token = (await anext(batches)).token
        with MongoClient[dict[str, object]](settings.mongodb_url, retryWrites=False) as client:
            client[settings.mongodb_database].drop_collection("events")
        with pytest.raises(HistoryLost):
            await nothing(batches)
    await store.setup()
    with pytest.raises(HistoryLost):
        async with store.watch(token):
            pass


async def test_no_server_is_told(
    connect: Callable[..., EventStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("appender", "grouped_reads", "subject_keys"):
        monkeypatch.setattr(f"pipeline.eventstore.{module}.DEADLINE", 1.0)
    store = connect("mongodb://127.0.0.1:1")
    with pytest.raises(StoreUnavailable):
        await store.ping()
    with pytest.raises(StoreUnavailable):
        await store.load(account(1))
    with pytest.raises(StoreUnavailable):
        async with store.watch(None):
            pass
    results = await outcomes(
        store.append(deposit(account(1), 1)),
        store.append(deposit(account(2), 1), deposit(account(3), 1)),
        store.keys.obtain(account(1), 0),
        store.snapshot_and_keys(account(1)),
    )
    assert [type(result) for result in results] == [StoreUnavailable] * 4


async def test_a_killed_server_loses_and_doubles_nothing(
    own_servers: EmbeddedServers, connect: Callable[..., EventStore]
) -> None:
    """Singles and transfers under load; the server dies and comes back; all outcomes were true."""
    server = own_servers.servers["mongodb"]
    store = connect(server.url)
    await store.setup()
    stored: dict[str, bool] = {}  # event id -> whether it must be there
    stop = asyncio.Event()

    async def write(worker: int) -> None:
        for version in itertools.count(1):
            if stop.is_set():
                return
            pair = worker % 4 == 0
            events = [deposit(account(worker), version)]
            if pair:
                events.append(deposit(account(1000 + worker), version))
            for _ in range(20):
                try:
                    await store.append(*events)
                    stored.update((event["_id"], True) for event in events)
                    break
                except StoreUnavailable:  # not known: the very same events once more
                    continue
            else:
                raise AssertionError("never came back")

    writers = [asyncio.create_task(write(worker)) for worker in range(16)]
    for _ in range(rounds(2, 8)):
        target = len(stored) + 200
        await eventually(lambda target=target: len(stored) >= target, seconds=60)  # type: ignore[misc]
        await server.kill()
        await asyncio.sleep(0.3)
        await server.start()
    target = len(stored) + 200
    await eventually(lambda: len(stored) >= target, seconds=60)
    stop.set()
    await asyncio.gather(*writers)
    found = [event async for events in store.replay(range(SLOTS)) for event in events]
    assert {event["_id"] for event in found} == stored.keys()
    assert len(found) == len(stored)
    for _, events in itertools.groupby(found, key=lambda event: event["account_id"]):
        versions = [event["version"] for event in events]
        assert versions == list(range(1, len(versions) + 1))


async def test_a_connection_that_dies_ends_the_watch(
    own_servers: EmbeddedServers, connect: Callable[..., EventStore]
) -> None:
    server = own_servers.servers["mongodb"]
    store = connect(server.url)
    await store.setup()
    async with store.watch(None) as batches:
        token = (await anext(batches)).token
        await server.kill()
        with pytest.raises(StoreUnavailable):
            await nothing(batches)
    await server.start()
    event = deposit(account(1), 1)
    await store.append(event)
    assert await after(store, token, 1) == [event["_id"]]


async def test_a_token_that_the_oplog_has_outgrown_is_lost_history(
    own_servers: EmbeddedServers, connect: Callable[..., EventStore]
) -> None:
    """The server itself says so (error 286)."""
    server = own_servers.servers["mongodb"]
    await server.kill()
    server._binary = replace(
        server._binary,
        command=lambda *where, _=server._binary.command: [*_(*where), "--oplog-max-entries", "50"],
    )
    await server.start()
    store = connect(server.url)
    await store.setup()
    async with store.watch(None) as batches:
        token = (await anext(batches)).token
    await asyncio.gather(*(store.append(deposit(account(n), 1)) for n in range(1500)))
    with pytest.raises(HistoryLost, match="no longer be in the oplog"):
        async with store.watch(token):
            pass


async def test_after_an_index_was_changed_a_watch_goes_on_or_its_history_is_lost(
    store: EventStore, settings: Settings
) -> None:
    """The embedded server gives a token that it does not take: whoever has it must start anew."""
    async with store.watch(None) as batches:
        with MongoClient[Event](settings.mongodb_url) as client:
            events = client[settings.mongodb_database]["events"]
            events.drop_index(events.create_index("created_at"))
        for _ in range(3):  # one batch is read ahead, one may be on its way
            token = (await anext(batches)).token
    with suppress(HistoryLost):
        async with store.watch(token) as batches:
            await anext(batches)
