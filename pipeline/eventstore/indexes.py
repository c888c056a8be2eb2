"""The two unique indexes of `events`: guards first, and what nearly all queries go by."""

import asyncio
import logging
from typing import Final

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure, PyMongoError

from pipeline.eventstore.write_results import Collection
from pipeline.support.correlation import detached
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

ORDER: Final = [("slot", ASCENDING), ("account_id", ASCENDING), ("version", ASCENDING)]
KEY: Final = "idempotency_key"

_VERSIONS: Final = IndexModel(ORDER, unique=True, name="account_version")
_KEYS: Final = IndexModel([(KEY, ASCENDING)], unique=True, sparse=True, name=f"{KEY}_sparse")
_OLD_KEYS: Final = KEY
"""The name of the partial index that earlier versions made: it holds the same documents, but not
every server finds a key by it."""
_INDEX_NOT_FOUND: Final = 27


class Indexes:
    """Makes them. One of these for each process is enough."""

    def __init__(self, events: Collection) -> None:
        self._events = events
        self._outage = Outage(log, "Replacing the partial index of idempotency keys")
        self._replacing: asyncio.Task[None] | None = None

    async def ensure(self) -> None:
        """Make them unless they are there; any number of processes at once.

        Where the partial one stands the keys are guarded: its replacement is made meanwhile.
        """
        if _OLD_KEYS not in await self._events.index_information():
            await self._events.create_indexes([_VERSIONS, _KEYS])
            return
        await self._events.create_indexes([_VERSIONS])
        if self._replacing is None or self._replacing.done():
            self._replacing = detached(self._outage.retry_forever(self._replace, PyMongoError))

    async def close(self) -> None:
        """Leave a replacement to whoever starts next."""
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait({self._replacing})

    async def _replace(self) -> None:
        """The new one first, under a name of its own: at no moment is a key unguarded."""
        await self._events.create_indexes([_KEYS])
        try:
            await self._events.drop_index(_OLD_KEYS)
        except OperationFailure as error:
            if error.code != _INDEX_NOT_FOUND:  # another process was the first
                raise
        log.warning("The index of idempotency keys is sparse now, no longer partial")
