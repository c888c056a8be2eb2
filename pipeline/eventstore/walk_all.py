"""All events in the order (slot, account, version), by pages: a reader may stop at any event, and
another process go on after it. Nothing is kept between two pages.

A query reads slots of which there are about enough events for a page: one query per slot costs more
than its result, and the embedded server reads and sorts all documents of a range first.
"""

from typing import Any, Final, NamedTuple

from pymongo.read_concern import ReadConcern

from pipeline.eventstore.errors import reachable
from pipeline.eventstore.indexes import ORDER
from pipeline.eventstore.write_results import Collection
from pipeline.model.events import SLOTS, Event, misplaced

_SLOTS_AT_ONCE: Final = 64


class Place(NamedTuple):
    """An event's place in the order; with version 0 the place before an account's first event."""

    slot: int
    account_id: str
    version: int


FIRST: Final = Place(0, "", 0)
"""Before all events."""


async def page(events: Collection, after: Place, limit: int) -> tuple[list[Event], Place | None]:
    """Up to `limit` events after the place, as they are stored, without invalid documents; and the
    place to go on after, None if there were no more. Only events that a majority has: who has seen
    one that is rolled back would take its successor of the same version for a repeat."""
    events = events.with_options(read_concern=ReadConcern("majority"))
    found: list[Event] = []
    if after.account_id:
        own, near = {"slot": after.slot, "account_id": after.account_id}, after.version + limit
        # In two ranges, for the embedded server reads and sorts all of the second one.
        found = await _some(events, {**own, "version": {"$gt": after.version, "$lte": near}}, limit)
        found += await _some(events, {**own, "version": {"$gt": near}}, limit - len(found))
        same_slot = {"slot": after.slot, "account_id": {"$gt": after.account_id}}
        found += await _some(events, same_slot, limit - len(found))
    slot, run = after.slot + bool(after.account_id), 1
    while len(found) < limit and slot < SLOTS:
        last = min(slot + run, SLOTS) - 1
        before = len(found)
        of_run = {"slot": {"$gte": slot, "$lte": last}}
        found += await _some(events, of_run, limit - before)
        slot = last + 1
        # As many slots as the rest of the page may need, by the density of these.
        read = max(1, len(found) - before)
        run = max(1, min(_SLOTS_AT_ONCE, 2 * run, (limit - len(found)) * run // read))
    return found, place_of(found[-1]) if len(found) >= limit else None


def place_of(event: Event) -> Place:
    """That of a valid event."""
    return Place(int(event["slot"]), event["account_id"], int(event["version"]))


async def _some(events: Collection, query: dict[str, Any], most: int) -> list[Event]:
    found: list[Event] = []
    if most <= 0:
        return found
    # Without `limit`: the first documents may be invalid.
    with reachable():
        cursor = events.find(query).sort(ORDER).batch_size(most)
        try:
            async for event in cursor:
                if misplaced(event) is None:
                    found.append(event)
                    if len(found) == most:
                        break
        finally:
            await cursor.close()
    return found
