"""The two unique indexes of `events`: they enforce the invariants and serve nearly all queries.

`account_version` gives optimistic concurrency; `idempotency_key_sparse`, one effect for a key.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from pymongo import ASCENDING, IndexModel, timeout
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
"""The partial index of earlier versions. It has the same documents, but the embedded server uses no
partial index for look-ups."""
_INDEX_NOT_FOUND: Final = 27
_LONGEST_BUILD: Final = 3600.0
"""Seconds."""
_LIST: Final = 1000


class Indexes:
    """Creates the indexes. A process needs one instance."""

    def __init__(self, events: Collection) -> None:
        self._events = events
        self._outage = Outage(log, "Replacing the partial index of idempotency keys")
        self._replacing: asyncio.Task[None] | None = None

    async def ensure(self, *, replace: bool) -> None:
        """Create the missing indexes; any number of processes may do so at once.

        A partial index of keys already enforces uniqueness, so its replacement, if this process is
        to make it (`replace`), is created in the background.
        """
        if not _guards(await self._events.index_information()):
            await self._events.create_indexes([_VERSIONS, _KEYS])
            return
        await self._events.create_indexes([_VERSIONS])
        if replace and (self._replacing is None or self._replacing.done()):
            self._replacing = detached(self._outage.retry_forever(self._replace, PyMongoError))

    async def close(self) -> None:
        """Cancel a replacement; the next forwarder that leads does it."""
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait({self._replacing})

    async def _replace(self) -> None:
        """Create the sparse index, then drop the partial one.

        In this order, and under another name, so that one of them is unique at every moment.
        """
        # Replaces the client's socket timeout: the embedded server is silent while it builds.
        with timeout(_LONGEST_BUILD):
            if _NEW_KEYS in await self._events.index_information() and not await self._complete():
                await self._drop(_NEW_KEYS)
            await self._events.create_indexes([_KEYS])
            await self._drop(_OLD_KEYS)
        log.warning("The index of idempotency keys is sparse now, no longer partial")

    async def _complete(self) -> bool:
        """Whether the sparse index has every key.

        The embedded server keeps a partly built index if it is killed while it builds one.
        """
        # Without a filter: one on the key may be answered from the very index in question.
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
            if error.code != _INDEX_NOT_FOUND:  # not found: another process has dropped it
                raise


def _guards(indexes: Mapping[str, Any]) -> bool:
    """Whether the partial index of keys is there, and is the one that earlier versions made."""
    old = indexes.get(_OLD_KEYS)
    return (
        old is not None
        and bool(old.get("unique"))
        and [tuple(each) for each in old["key"]] == [(KEY, ASCENDING)]
        and dict(old.get("partialFilterExpression", {})) == {KEY: {"$exists": True}}
    )
