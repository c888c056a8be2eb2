"""The events of a correlation id, without an index of it: by the ids of events, which begin with
the time of the clock that made them. On MongoDB that is a range of the index that `_id` has.
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
    """The server was still searching when the time was up."""


async def correlated(
    events: Collection, correlation_id: str, since: datetime, until: datetime, seconds: float
) -> list[Event]:
    """Those whose id was made from `since` until `until` (with a timezone), as they are stored, in
    order of their ids. Raises `TookTooLong` after the seconds, and `StoreUnavailable`."""
    query: dict[str, Any] = {
        "_id": {"$gte": _first(since), "$lt": _first(until)},
        "correlation_id": correlation_id,
    }
    try:
        with timeout(seconds):  # in the place of the client's own, which is short
            return await events.find(query).sort("_id", ASCENDING).to_list(None)
    except PyMongoError as error:
        if error.timeout and not isinstance(error, ServerSelectionTimeoutError):
            raise TookTooLong from error
        raise StoreUnavailable(str(error)) from error


def _first(moment: datetime) -> str:
    """The lowest id of that millisecond."""
    return str(ULID.from_int(max(0, int(moment.timestamp() * 1000)) << 80))
