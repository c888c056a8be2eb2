"""Finds the events of a correlation id without an index on it, by a range of `_id`.

Event ids are ULIDs: they begin with the time of the clock that made them. So a time range is a
range of MongoDB's `_id` index; the embedded server scans the collection.
"""

from datetime import datetime
from typing import Any

from pymongo import ASCENDING, timeout
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError
from ulid import ULID

from pipeline.eventstore.errors import StoreUnavailable
from pipeline.eventstore.write_results import Collection
from pipeline.model.events import Event


class TookTooLong(Exception):
    """The query did not end within its time limit."""


async def correlated(
    events: Collection, correlation_id: str, since: datetime, until: datetime, seconds: float
) -> list[Event]:
    """The events whose id was made from `since` until `until` (with a timezone), in order of ids.

    They are as stored, not upcast. Raises `TookTooLong` after `seconds`, and `StoreUnavailable`.
    """
    query: dict[str, Any] = {
        "_id": {"$gte": _first(since), "$lt": _first(until)},
        "correlation_id": correlation_id,
    }
    try:
        with timeout(seconds):  # replaces the client's socket timeout, which is too short here
            return await events.find(query).sort("_id", ASCENDING).to_list(None)
    except PyMongoError as error:
        # A server that is down also counts as a timeout, but not as a slow query.
        if error.timeout and not isinstance(error, ServerSelectionTimeoutError):
            raise TookTooLong from error
        raise StoreUnavailable(str(error)) from error


def _first(moment: datetime) -> str:
    """The lowest ULID of that millisecond: 48 bits of time, then 80 random bits, here 0."""
    return str(ULID.from_int(max(0, int(moment.timestamp() * 1000)) << 80))
