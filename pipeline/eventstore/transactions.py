"""Appending several accounts' events in one transaction: all of them or none."""

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final

from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, ConnectionFailure, PyMongoError

from pipeline.eventstore.errors import StoreUnavailable, VersionConflict
from pipeline.eventstore.write_results import (
    DUPLICATE_KEY,
    Client,
    Collection,
    Refused,
    encode,
    ours,
    refusal,
)
from pipeline.model.events import Event
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

_CONFLICTS: Final = 12
_FIRST_PAUSE: Final = 0.01


class Transactions:
    """Runs transactions, any number at once, each to its end even if nobody waits for it."""

    def __init__(self, client: Client, events: Collection, outage: Outage) -> None:
        self._client, self._events, self._outage = client, events, outage
        self._under_way: set[asyncio.Task[None]] = set()

    def start(self, events: Sequence[Event], seconds: float) -> asyncio.Task[None]:
        """Begin one. The task raises what was in the way; `StoreUnavailable` past the time."""
        documents = [encode(event) for event in events]
        task = asyncio.create_task(self._transact(events, documents, seconds))
        self._under_way.add(task)
        task.add_done_callback(self._forget)
        return task

    async def close(self, seconds: float) -> None:
        """Wait for those under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)

    async def _transact(
        self, events: Sequence[Event], documents: list[RawBSONDocument], seconds: float
    ) -> None:
        """Try until the transaction is committed or refused, or the time is up."""
        clock = asyncio.get_running_loop().time
        end, failures, conflicts = clock() + seconds, 0, 0
        while clock() < end:
            try:
                refused = await self._commit(documents)
                if refused and len(await ours(self._events, events)) < len(events):
                    raise refusal(events[refused["index"]], refused)
                return self._outage.over()
            except PyMongoError as error:
                if not _lost_a_race(error):
                    await self._outage.pause(error, failures)
                    failures += 1
                    continue
            conflicts += 1
            if conflicts == _CONFLICTS:
                raise VersionConflict(events[0]["account_id"], events[0]["version"])
            await asyncio.sleep(_FIRST_PAUSE * random.uniform(0, conflicts))
        raise StoreUnavailable("MongoDB did not tell in time what became of a transaction")

    async def _commit(self, documents: list[RawBSONDocument]) -> Refused | None:
        """Insert all and commit; return the duplicate key that was in the way, if any."""
        try:
            async with await self._client.start_session() as session, session.start_transaction():
                await self._events.insert_many(documents, session=session)
        except BulkWriteError as error:
            for refused in error.details["writeErrors"]:
                if refused["code"] == DUPLICATE_KEY:
                    return dict(refused)
            raise
        return None

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # seen: its caller may have gone


def _lost_a_race(error: PyMongoError) -> bool:
    """Whether a transaction was aborted for another one's sake: nothing of it is stored."""
    transient = error.has_error_label("TransientTransactionError")
    return transient and not isinstance(error, ConnectionFailure)
