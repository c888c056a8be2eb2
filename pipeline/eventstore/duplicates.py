"""Finds and names the events that share what a unique index has to keep apart."""

from collections import defaultdict
from typing import Any, Final

from pymongo import IndexModel, timeout

from pipeline.eventstore.indexes import KEY, KEYS, fields_of
from pipeline.eventstore.write_results import Collection

EXAMPLES: Final = 10
"""The most groups that are found."""
_LONGEST: Final = 3600.0
"""Seconds."""


async def find(events: Collection, guard: IndexModel) -> list[Any]:
    """Scan for some of the duplicates; their ids."""
    fields = fields_of(guard)
    bearing: list[dict[str, Any]] = [{"$match": {KEY: {"$exists": True}}}]
    pipeline = [
        *(bearing if guard is KEYS else []),
        {"$group": {"_id": {f: f"${f}" for f in fields}, "ids": {"$push": "$_id"}}},
        {"$match": {"ids.1": {"$exists": True}}},
        {"$limit": EXAMPLES},
    ]
    with timeout(_LONGEST):  # replaces the client's socket timeout
        cursor: Any = events.aggregate(pipeline, allowDiskUse=True)
        found = await cursor.to_list(None)
    return [each for group in found for each in group["ids"]]


async def named(events: Collection, guard: IndexModel, ids: list[Any]) -> dict[str, int]:
    """The duplicates that are still among these events: what they share, with some of their ids,
    and their number. It has data of accounts."""
    if not ids:
        return {}
    groups: defaultdict[str, list[str]] = defaultdict(list)
    shown = dict.fromkeys(fields_of(guard), 1)
    async for event in events.find({"_id": {"$in": ids}}, shown):
        if guard is not KEYS:
            place = f"version {event.get('version')!r} of account {event.get('account_id')!r}"
            groups[place].append(str(event["_id"]))
        elif KEY in event:
            groups[f"{KEY} {event[KEY]!r}"].append(str(event["_id"]))
    return {
        f"{what:.200} is in {len(ids)} events ({', '.join(ids[:3])})": len(ids)
        for what, ids in groups.items()
        if len(ids) > 1
    }


def counted(guard: IndexModel, number: int) -> str:
    """How many there are, for everybody: without data of accounts."""
    shared = "an idempotency key" if guard is KEYS else "a version of an account"
    return f"{number or 'some'} events share {shared}; the log and `bank verify` name them"
