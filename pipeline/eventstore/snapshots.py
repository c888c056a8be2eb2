"""The collection `snapshots`: the state of a long account at a version, to fold from there on.

Snapshots are a cache. A reader verifies a snapshot before it uses it and works without one. They
are written in the background; while too many writes are in flight, further ones are dropped.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final, TypeAlias

from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from pipeline.eventstore import driver
from pipeline.eventstore.errors import StoreUnavailable, VersionConflict, reachable
from pipeline.support.retry import brief

log = logging.getLogger(__name__)

Document: TypeAlias = dict[str, Any]

AT_ONCE: Final = 8
"""The most writes in flight."""


class Snapshots:
    """One document per account; `_id` is the account's id."""

    def __init__(self, collection: "driver.Collection[Document]") -> None:
        # A lost snapshot only costs time, so no write waits for a majority.
        self._snapshots = collection.with_options(write_concern=WriteConcern(w=1))
        self._writing: dict[str, asyncio.Task[None]] = {}

    async def find(self, account_id: str) -> Document | None:
        """The stored snapshot, not verified; may raise `StoreUnavailable`."""
        with reachable():
            return await self._snapshots.find_one({"_id": account_id})

    async def find_many(self, account_ids: Collection[str]) -> dict[str, Document]:
        """Those there are, not verified; may raise `StoreUnavailable`."""
        with reachable():
            found = await self._snapshots.find({"_id": {"$in": [*account_ids]}}).to_list(None)
        return {each["_id"]: each for each in found}

    def keep(
        self, snapshot: Document, finish: Callable[[Document], Awaitable[Document]] | None = None
    ) -> None:
        """Replace the account's snapshot in the background; drop it if `AT_ONCE` are in flight.

        What is written is what `finish` makes of it, which may raise `StoreUnavailable` and
        `VersionConflict`.
        """
        account_id = snapshot["_id"]
        if account_id in self._writing or len(self._writing) >= AT_ONCE:
            return
        task = asyncio.create_task(self._write(account_id, snapshot, finish))
        self._writing[account_id] = task
        task.add_done_callback(lambda _: self._writing.pop(account_id))

    async def close(self) -> None:
        """Wait for the writes in flight."""
        if self._writing:
            await asyncio.wait(self._writing.values())

    async def remove(self, account_id: str) -> None:
        """Delete the account's snapshot; may raise `StoreUnavailable`."""
        with reachable():
            await self._snapshots.delete_one({"_id": account_id})

    async def _write(
        self,
        account_id: str,
        snapshot: Document,
        finish: Callable[[Document], Awaitable[Document]] | None,
    ) -> None:
        try:
            snapshot = snapshot if finish is None else await finish(snapshot)
            await self._snapshots.replace_one({"_id": account_id}, snapshot, upsert=True)
        except (PyMongoError, StoreUnavailable, VersionConflict) as error:
            log.debug("No snapshot of account %s: %s", account_id, brief(error))
        except Exception as error:  # BSON lacks some of what JSON has, such as integers above 2^63
            log.warning("No snapshot of account %s can be stored: %s", account_id, brief(error))
