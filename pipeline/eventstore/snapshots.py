"""The collection `snapshots`: the state of a long account at a version, to fold from there on.

Snapshots are a cache. A reader verifies a snapshot before it uses it and works without one. They
are written in the background; while too many writes are in flight, further ones are dropped.
"""

import asyncio
import logging
from typing import Any, Final, TypeAlias

from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from pipeline.eventstore import driver
from pipeline.eventstore.errors import reachable
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

    def keep(self, snapshot: Document) -> None:
        """Replace the account's snapshot in the background; drop it if `AT_ONCE` are in flight."""
        account_id = snapshot["_id"]
        if account_id in self._writing or len(self._writing) >= AT_ONCE:
            return
        task = asyncio.create_task(self._write(account_id, snapshot))
        self._writing[account_id] = task
        task.add_done_callback(lambda _: self._writing.pop(account_id))

    async def close(self) -> None:
        """Wait for the writes in flight."""
        if self._writing:
            await asyncio.wait(self._writing.values())

    async def _write(self, account_id: str, snapshot: Document) -> None:
        try:
            await self._snapshots.replace_one({"_id": account_id}, snapshot, upsert=True)
        except PyMongoError as error:
            log.debug("No snapshot of account %s: %s", account_id, brief(error))
        except Exception as error:  # BSON lacks some of what JSON has, such as integers above 2^63
            log.warning("No snapshot of account %s can be stored: %s", account_id, brief(error))
