"""What lies beside the events and is none: nobody reads it, and the checker tells of it."""

from collections.abc import AsyncIterator
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.eventstore import EventStore
from pipeline.model.events import SLOTS, Event, misplaced, new_event, slot_of
from pipeline.support.settings import Settings

ACCOUNT = "01J00000000000000000000000"


def sound() -> list[Event]:
    return [
        new_event(ACCOUNT, 1, CREATED, {"owner": "Ada", "money": 5}),
        new_event(ACCOUNT, 2, DEPOSITED, {"money": 5}),
    ]


INVALID: list[dict[str, Any]] = [
    {"slot": slot_of(ACCOUNT), "version": 3},
    {"slot": slot_of(ACCOUNT), "account_id": [ACCOUNT], "version": 4},
    {"slot": (slot_of(ACCOUNT) + 1) % SLOTS, "account_id": ACCOUNT, "version": 3},
    {"account_id": ACCOUNT, "version": 3},
    {"slot": str(slot_of(ACCOUNT)), "account_id": ACCOUNT, "version": 3},
    *(
        {"slot": slot_of(ACCOUNT), "account_id": ACCOUNT, "version": version}
        for version in ("3", None, True, 0, -1, 1.5, float("inf"), float("nan"), [5], {"$": 1})
    ),
    {"slot": slot_of(ACCOUNT), "account_id": ACCOUNT, "version": bson.Decimal128("6")},
    *(
        {"slot": slot_of(name), "account_id": name, "version": 1}
        for name in ("", " ", "a b", "\x00", "../x", "é", "x" * 65)
    ),
]


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[EventStore]:
    """With an account of two events, and all kinds of invalid documents beside them."""
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    for event in sound():
        await store.append(event)
    put(settings, [{"kind": DEPOSITED, "_id": f"{i}", **each} for i, each in enumerate(INVALID)])
    yield store
    await store.close()


def put(settings: Settings, documents: list[dict[str, Any]]) -> None:
    with MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False) as client:
        client[settings.mongodb_database]["events"].insert_many(documents)


@pytest.mark.parametrize("document", INVALID, ids=str)
def test_what_is_at_no_place_of_an_event(document: dict[str, Any]) -> None:
    assert misplaced(document)
    assert not misplaced(sound()[1])


async def test_readers_ignore_invalid_documents(store: EventStore) -> None:
    for found in (
        await store.load(ACCOUNT),
        await store.load(ACCOUNT, after=0),
        await store.page(ACCOUNT, after=0, limit=100),
        [event async for events in store.walk(ACCOUNT) for event in events],
        [event async for events in store.replay(range(SLOTS)) for event in events],
    ):
        assert [event["version"] for event in found] == [1, 2]
    assert await store.head(ACCOUNT) == 2


async def test_somebody_tells_of_them(store: EventStore) -> None:
    invalid = await store.invalid_documents()
    assert invalid.number == len(INVALID)
    assert invalid.examples[0] == "_id '0': it is of no account"


async def test_a_key_in_a_list_is_taken_like_any_other(
    store: EventStore, settings: Settings
) -> None:
    """MongoDB's index finds it there, too."""
    put(settings, [{**sound()[1], "_id": "x", "version": 3, "idempotency_key": ["a", "b"]}])
    found = await store.under_keys(["b"])
    assert {key: event["_id"] for key, event in found.items()} == {"b": "x"}
