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
_NEW_KEYS: Final = f"{KEY}_sparse"
_KEYS: Final = IndexModel([(KEY, ASCENDING)], unique=True, sparse=True, name=_NEW_KEYS)
_OLD_KEYS: Final = KEY
"""The name of the partial index that earlier versions made: it holds the same documents, but not
every server finds a key by it."""
_INDEX_NOT_FOUND: Final = 27
_LIST: Final = 1000


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
        if _NEW_KEYS in await self._events.index_information() and not await self._complete():
            await self._drop(_NEW_KEYS)
        await self._events.create_indexes([_KEYS])
        await self._drop(_OLD_KEYS)
        log.warning("The index of idempotency keys is sparse now, no longer partial")

    async def _complete(self) -> bool:
        """Whether every key is found by the new one. A server that is killed while it makes an
        index should not keep a part of it, but the embedded one does."""
        cursor = self._events.find({}, {KEY: 1}).batch_size(_LIST)
        while found := await cursor.to_list(_LIST):
            keys = [each[KEY] for each in found if KEY in each]
            query = self._events.find({KEY: {"$in": keys}}, {"_id": 1}).hint(_NEW_KEYS)
            if len(await query.to_list(None)) < len(keys):
                return False
        return True

    async def _drop(self, name: str) -> None:
        try:
            await self._events.drop_index(name)
        except OperationFailure as error:
            if error.code != _INDEX_NOT_FOUND:  # else another process was the first
                raise
