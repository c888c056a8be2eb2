"""All events by pages: complete, in order, from any event on, whatever else is stored there."""

from itertools import chain
from typing import Any

import pytest
from pymongo.collection import Collection

from pipeline.eventstore import FIRST, EventStore, Place, place_of
from pipeline.model.events import Event, slot_of
from tests.bank import accounts, append


async def walked(store: EventStore, limit: int, after: Place = FIRST) -> list[Event]:
    found: list[Event] = []
    place: Place | None = after
    while place is not None:
        page, place = await store.after(place, limit)
        assert len(page) == limit or place is None
        found += page
    return found


async def test_pages_of_any_size_have_every_event_once_in_order(
    store: EventStore, events: Collection[dict[str, Any]]
) -> None:
    made = accounts(30, 9)
    await append(store, made)
    aside = made[0][0]["account_id"]
    for document in (
        {"slot": slot_of(aside), "account_id": aside, "version": "two"},
        {"slot": slot_of(aside), "account_id": {"not": "text"}, "version": 1},
        {"slot": slot_of(aside) + 1, "account_id": aside, "version": 1},
        {"slot": "none"},
    ):
        events.insert_one({"_id": str(document), "idempotency_key": str(document), **document})
    expected = sorted(map(place_of, chain(*made)))
    for limit in (1000, 270, 269, 7):
        assert [place_of(event) for event in await walked(store, limit)] == expected


async def test_it_reads_an_account_to_its_end_over_what_is_damaged(
    store: EventStore, events: Collection[dict[str, Any]]
) -> None:
    [history] = accounts(1, 30)
    await append(store, [history])
    damaged = history[4]
    events.update_one({"_id": damaged["_id"]}, {"$set": {"version": 10.5}})
    expected = [place_of(each) for each in history if each is not damaged]
    for limit in (10, 7, 1):
        assert [place_of(each) for each in await walked(store, limit)] == expected


async def test_it_goes_on_after_any_event(store: EventStore) -> None:
    made = accounts(3, 4)
    await append(store, made)
    expected = sorted(map(place_of, chain(*made)))
    for number, place in enumerate(expected, 1):
        assert [*map(place_of, await walked(store, 5, place))] == expected[number:]
    nobody = Place(expected[0].slot, "~", 7)
    assert await walked(store, 5, nobody) == await walked(store, 5, expected[3])


async def test_events_are_as_they_are_stored(store: EventStore) -> None:
    [history] = accounts(1, 1)
    history[0] |= {"kind": "AccountFrozen", "schema": 1, "body": {}}
    await append(store, [history])
    assert await walked(store, 5) == history


@pytest.mark.parametrize("limit", [1, 1000])
async def test_an_empty_store_has_no_page(store: EventStore, limit: int) -> None:
    assert await store.after(FIRST, limit) == ([], None)
