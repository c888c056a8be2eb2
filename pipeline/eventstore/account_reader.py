"""Reads one account's events, however many there are, by ranges of versions.

A range has an upper bound where it can have one, because the embedded server reads and sorts all
documents of a range before it applies a limit.
"""

from collections.abc import AsyncGenerator, Iterable
from collections.abc import Collection as Some
from typing import Any, Final

from pymongo import DESCENDING
from pymongo.read_concern import ReadConcern

from pipeline.eventstore.errors import reachable
from pipeline.eventstore.indexes import ORDER
from pipeline.eventstore.write_results import Collection
from pipeline.model.events import Event, misplaced, slot_of
from pipeline.model.upcasters import upcast

_LIST: Final = 1000
_SCANNED: Final = 50_000


def placed(found: Iterable[Event]) -> list[Event]:
    """The events without the invalid documents, which anybody with access may have inserted."""
    return [event for event in found if misplaced(event) is None]


def readable(found: Iterable[Event]) -> list[Event]:
    """The valid events, each upcast to the newest schema of its kind."""
    return [*map(upcast, placed(found))]


async def head(events: Collection, account_id: str) -> int:
    """The newest version of the account, 0 if there is none."""
    with reachable():
        # No `limit(1)`: the highest version may be that of an invalid document.
        newest = events.find(_of(account_id, {"$gte": 1})).sort("version", DESCENDING)
        async for event in newest:
            if misplaced(event) is None:
                return int(event["version"])
    return 0


async def walk(
    events: Collection, account_id: str, after: int, to: int | None
) -> AsyncGenerator[list[Event], None]:
    """The account's events above the version `after`, up to `to`, in lists of at most a thousand.

    One list is in memory at a time. No list is empty; a list that is not full is the last one.
    """
    read = _near
    while to is None or after < to:
        most = _LIST if to is None else min(_LIST, to - after)
        found = await read(events, account_id, after, most)
        if found:
            yield [*map(upcast, found)]
        if len(found) < most:
            return
        after = found[-1]["version"]
        read = page  # a long history is worth one more query that looks past a missing version


async def page(events: Collection, account_id: str, after: int, limit: int) -> list[Event]:
    """Up to `limit` events above the version `after`, as stored, across missing versions too."""
    found = await _near(events, account_id, after, limit)
    if left := limit - len(found):
        rest = events.find(_of(account_id, {"$gt": after + limit})).sort(ORDER).limit(left)
        with reachable():
            found += placed(await rest.to_list(left))
    return found


async def of_kinds(
    events: Collection, account_id: str, kinds: Some[str], after: int, limit: int
) -> list[Event]:
    """Up to `limit` events of these kinds above the version `after`, which a majority has. Fewer
    need not be all: there is no more when there is none."""
    durable, wanted = events.with_options(read_concern=ReadConcern("majority")), sorted(kinds)
    # MongoDB makes one match of the two. The embedded one reads all of the account for one match
    # with a field that its index does not have.
    of_them: list[dict[str, Any]] = [
        {"$match": {"kind": {"$in": wanted}}},
        {"$sort": dict(ORDER)},
        {"$limit": limit},
    ]
    while True:
        # The index has no kinds: a query of a long account would read all of it, and be timed out.
        near = _of(account_id, {"$gt": after, "$lte": after + _SCANNED})
        with reachable():
            query = durable.aggregate([{"$match": near}, *of_them])
            found = readable(await query.to_list(None))
            after += _SCANNED
            if found or not await durable.find_one(_of(account_id, {"$gt": after}), {"_id": 1}):
                return found


async def _near(events: Collection, account_id: str, after: int, limit: int) -> list[Event]:
    """The events of the next `limit` versions."""
    versions = {"$gt": after, "$lte": after + limit}
    with reachable():
        return placed(await events.find(_of(account_id, versions)).sort(ORDER).to_list(None))


def _of(account_id: str, versions: dict[str, int]) -> dict[str, Any]:
    return {"slot": slot_of(account_id), "account_id": account_id, "version": versions}
