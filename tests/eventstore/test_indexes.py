"""The guards of `events`, and how a bank that was begun with the partial index gets the sparse one.

On any MongoDB (BANK_TEST_MONGODB_URL, or the embedded one).
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo import IndexModel, MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError

from pipeline.banking.commands import Deposit
from pipeline.banking.events import CREATED
from pipeline.commands import CommandContext
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore, KeyTaken, StoreUnavailable, StoreUnguarded
from pipeline.eventstore.guards import FRESH
from pipeline.model.events import Event, new_event
from pipeline.support.settings import Settings
from tests.accounts import account_service
from tests.conftest import placed
from tests.harness import eventually
from tests.proxy import TcpProxy

OLD, NEW = "idempotency_key", "idempotency_key_sparse"


def older(events: Collection[dict[str, Any]]) -> None:
    """Make the indexes as the bank made them before."""
    order = [("slot", 1), ("account_id", 1), ("version", 1)]
    events.create_index(order, unique=True, name="account_version")
    there = {OLD: {"$exists": True}}
    events.create_index([(OLD, 1)], unique=True, name=OLD, partialFilterExpression=there)


@pytest.fixture
def events(events: Collection[dict[str, Any]]) -> Collection[dict[str, Any]]:
    """The collection of a bank that is begun with the partial index."""
    older(events)
    return events


def opened(number: int, key: str) -> Event:
    event = new_event(f"{number:026d}", 1, CREATED, {"owner": "A", "money": 5})
    event["idempotency_key"] = key
    return event


async def renewed(events: Collection[dict[str, Any]]) -> None:
    await eventually(lambda: {NEW} == set(events.index_information()) - {"_id_", "account_version"})


async def test_the_partial_index_gives_way_to_a_sparse_one(
    settings: Settings, events: Collection[dict[str, Any]]
) -> None:
    events.insert_many(dict(opened(n, f"k{n}")) for n in range(50))
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    await renewed(events)
    made = events.index_information()[NEW]
    assert made["key"] == [(OLD, 1)]
    assert made["unique"]
    assert made["sparse"]
    assert [*await store.under_keys(["k7"])] == ["k7"]
    with pytest.raises(KeyTaken):
        await store.append(opened(100, "k7"))
    await store.append(
        new_event(f"{200:026d}", 1, CREATED, {}), new_event(f"{201:026d}", 1, CREATED, {})
    )
    await store.close()


async def test_the_key_is_guarded_at_every_moment(
    settings: Settings, events: Collection[dict[str, Any]]
) -> None:
    """Many roles start at once, and older ones with them, which make the partial one again."""
    first = opened(0, "k")
    events.insert_one(dict(first))
    stores = [EventStore(settings.mongodb_url, settings.mongodb_database) for _ in range(4)]
    done = asyncio.Event()

    async def guarded() -> int:
        """As many as were refused; whatever happens to the indexes, none is stored."""
        number = 1
        while not done.is_set():
            with pytest.raises(KeyTaken):
                await stores[0].append(opened(number, "k"))
            number += 1
        return number

    async def starts() -> None:
        for _ in range(3):
            await asyncio.gather(*(store.setup() for store in stores))
            await renewed(events)
            await asyncio.to_thread(older, events)
        await stores[0].setup()
        await renewed(events)
        done.set()

    refused, _ = await asyncio.gather(guarded(), starts())
    assert refused > 1
    assert events.count_documents({OLD: "k"}) == 1
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_replacement_that_was_cut_short_is_taken_up_by_the_next_start(
    settings: Settings, events: Collection[dict[str, Any]]
) -> None:
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    await store.close()
    events.create_index([(OLD, 1)], unique=True, sparse=True, name=NEW)
    with suppress(StoreUnavailable):
        await (later := EventStore(settings.mongodb_url, settings.mongodb_database)).setup()
    await renewed(events)
    await later.close()


async def test_a_data_folder_of_before_opens_and_goes_on(scratch: Path) -> None:
    """A command that was executed then is answered as then; killed amid the change, it goes on."""
    settings = placed(scratch)
    servers = EmbeddedServers(settings, ["mongodb"])
    await servers.start()
    client = MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False)
    try:
        events = client[settings.mongodb_database]["events"]
        older(events)
        store = EventStore(settings.mongodb_url, settings.mongodb_database)
        service, terms = account_service(store), CommandContext("c", key="paid", request="r")
        service.commands._opened = True  # without the indexes of today
        created = await service.create("Ada", 5, CommandContext("c", key="made"))
        paid = await service.execute(created.after.id, Deposit(7), terms)
        await store.close()
        await asyncio.to_thread(events.insert_many, [dict(opened(n, f"k{n}")) for n in range(600)])

        # The server is killed while it makes the new index, and may keep a part of it.
        server = servers.servers["mongodb"]
        new = IndexModel([(OLD, 1)], unique=True, sparse=True, name=NEW)
        making = asyncio.create_task(asyncio.to_thread(events.create_indexes, [new]))
        await asyncio.sleep(0.5)  # some time amid it; whenever it is, what follows holds
        await server.kill()
        with suppress(PyMongoError):
            await making
        await server.start()

        store = EventStore(settings.mongodb_url, settings.mongodb_database)
        service = account_service(store)
        await service.open()
        await store.setup()  # as the leading forwarder does
        await renewed(events)
        assert len(await store.under_keys([f"k{n}" for n in range(600)])) == 600
        again = await service.execute(created.after.id, Deposit(7), terms)
        assert (again.events, again.replayed) == (paid.events, True)
        assert (await service.get(created.after.id)).state.balance == 12
        await store.close()
    finally:
        client.close()
        await servers.stop()


async def test_an_index_of_that_name_that_guards_nothing_is_not_trusted(
    settings: Settings, store: EventStore
) -> None:
    """Without a unique index of keys the store is not set up, whatever has the old one's name."""
    with MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False) as client:
        events = client[settings.mongodb_database]["events"]
        await asyncio.to_thread(events.drop_indexes)
        await asyncio.to_thread(events.create_index, [(OLD, 1)], name=OLD)
        await store.setup()
        assert NEW in await asyncio.to_thread(events.index_information)


async def test_an_index_that_the_server_refuses_is_a_hindrance(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, tries = EventStore(settings.mongodb_url, settings.mongodb_database), list[object]()

    async def refused(*args: object) -> None:
        tries.append(args)
        await asyncio.sleep(0.1)
        details = {"code": 171, "codeName": "CannotIndexParallelArrays", "errmsg": "no arrays"}
        raise OperationFailure("no arrays", 171, details)

    monkeypatch.setattr(store._indexes, "_create", refused)
    for _ in range(2):
        with pytest.raises(StoreUnguarded, match="can't be built: no arrays"):
            await store.setup()
    assert len(tries) <= 3, "the second time rests"
    await store.close()


async def test_a_look_without_an_answer_is_short(settings: Settings) -> None:
    """Every append waits for it, and its connection may have died silently."""
    async with TcpProxy(settings.mongodb_url) as way:
        store = EventStore(f"{way.url}/?directConnection=true", settings.mongodb_database)
        await store.setup()
        await store.append(opened(1, "a"))
        way.half_open()
        await asyncio.sleep(2 * FRESH)
        began = time.monotonic()
        with suppress(StoreUnavailable):
            await store.guards.look()
        took = time.monotonic() - began
        assert 0.5 < took < 5, took
        await store.append(opened(2, "b"))
        await store.close()
