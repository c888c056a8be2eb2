"""The collection `processes`: the state of each instance of a process manager, and where each
process is in the change stream.

    {_id: "search/01JD…", process: "search", revision: 3, wake: …, parked: {since: …, …}, …}
    {_id: "search", token: …, slot: 1024, owner: …}

`wake`: when the runner must look at the instance, if no event comes before. What else a document
has is the runner's own (`pipeline/processes/instance.py`).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from pipeline.eventstore import driver
from pipeline.eventstore.errors import reachable

Document = dict[str, Any]

_WAKE: Final = IndexModel([("process", ASCENDING), ("wake", ASCENDING)], name="wake")
_PARKED: Final = IndexModel([("parked.since", ASCENDING)], sparse=True, name="parked")


class Waking(NamedTuple):
    """An instance's aggregate, and the time at which it is to be looked at."""

    aggregate_id: str
    wake: datetime


class ProcessStates:
    """Every method may raise `StoreUnavailable`. What is read can't be rolled back."""

    def __init__(self, collection: "driver.Collection[Document]") -> None:
        # The commands of a reaction rely on what was read before them.
        self._processes = collection.with_options(read_concern=ReadConcern("majority"))

    async def setup(self) -> None:
        """Create the indexes, if they are missing."""
        with reachable():
            await self._processes.create_indexes([_WAKE, _PARKED])

    async def find(self, process: str, aggregate_id: str) -> Document | None:
        """An instance's document."""
        with reachable():
            return await self._processes.find_one({"_id": f"{process}/{aggregate_id}"})

    async def put(self, document: Mapping[str, Any]) -> bool:
        """Keep an instance's document in the place of the one of the `revision` before, 0 for none;
        False if that is not there: somebody else was first."""
        before = document["revision"] - 1
        with reachable():
            if before:
                its = {"_id": document["_id"], "revision": before}
                replaced = await self._processes.replace_one(its, document)
                return bool(replaced.matched_count)
            try:
                await self._processes.insert_one({**document})
            except DuplicateKeyError:
                return False
            return True

    async def waking(self, process: str, until: datetime, limit: int) -> list[Waking]:
        """Up to `limit` instances to be looked at until then, the earliest first."""
        query = {"wake": {"$lte": until}, "process": process}
        found = self._processes.find(query, {"aggregate_id": 1, "wake": 1}).sort("wake")
        with reachable():
            listed = await found.limit(limit).to_list(None)
        return [
            Waking(each["aggregate_id"], each["wake"].replace(tzinfo=UTC))
            for each in listed
            if isinstance(each.get("aggregate_id"), str)  # else somebody has written it by hand
        ]

    async def overdue(self, process: str, until: datetime, limit: int) -> int:
        """How many were to be looked at until then; at most `limit`."""
        query = {"wake": {"$lte": until}, "process": process}
        with reachable():
            return await self._processes.count_documents(query, limit=limit)

    async def parked(self, processes: Iterable[str], limit: int) -> list[Document]:
        """Up to `limit` documents of parked instances, the longest parked first."""
        query = {"parked.since": {"$gt": datetime.min}, "process": {"$in": [*processes]}}
        with reachable():
            return await self._processes.find(query).sort("parked.since").limit(limit).to_list(None)

    async def count_parked(self, process: str, limit: int) -> int:
        """How many are parked; at most `limit`."""
        query = {"parked.since": {"$gt": datetime.min}, "process": process}
        with reachable():
            return await self._processes.count_documents(query, limit=limit)

    async def retry(self, process: str, aggregate_id: str) -> bool:
        """Have a parked instance tried again now; False if it is not parked."""
        at = await self.now()
        query = {"_id": f"{process}/{aggregate_id}", "parked": {"$exists": True}}
        change = {"$set": {"wake": at, "parked.retry": at}, "$inc": {"revision": 1}}
        with reachable():
            return bool((await self._processes.update_one(query, change)).matched_count)

    async def position(self, process: str) -> Document:
        """Where the process is; empty if it has never run."""
        with reachable():
            return await self._processes.find_one({"_id": process}) or {}

    async def keep_position(self, process: str, token: str | None, /, **changes: Any) -> bool:
        """Change what is kept of it, if its token is still that one, None for none; False if
        somebody else was first."""
        its = {"_id": process, "token": token}
        with reachable():
            try:
                kept = await self._processes.update_one(its, {"$set": changes}, upsert=not token)
            except DuplicateKeyError:  # there is one, with a token
                return False
            return bool(kept.matched_count or kept.upserted_id)

    async def now(self) -> datetime:
        """The time by the server's clock, by which all machines judge what `wake` they write."""
        with reachable():
            hello = await self._processes.database.client.admin.command("hello")
        return hello["localTime"].replace(tzinfo=UTC)  # type: ignore[no-any-return]
