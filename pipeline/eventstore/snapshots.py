"""The collection `snapshots`: for a long account, where its folding may begin instead of version 1.

Nothing depends on one: whoever reads it must prove it, and can do without. It is written in the
background, now and then; what is too much at once is left out.
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


class Snapshots:
    """One document an account; `_id` is the account's id."""

    def __init__(self, collection: "driver.Collection[Document]") -> None:
        # One that gets lost costs time only.
        self._snapshots = collection.with_options(write_concern=WriteConcern(w=1))
        self._writing: dict[str, asyncio.Task[None]] = {}

    async def find(self, account_id: str) -> Document | None:
        """What is kept of the account, right or wrong; may raise `StoreUnavailable`."""
        with reachable():
            return await self._snapshots.find_one({"_id": account_id})

    def keep(self, snapshot: Document) -> None:
        """Have it stored in the place of the one before; not if there is too much to do."""
        account_id = snapshot["_id"]
        if account_id in self._writing or len(self._writing) >= AT_ONCE:
            return
        task = asyncio.create_task(self._write(account_id, snapshot))
        self._writing[account_id] = task
        task.add_done_callback(lambda _: self._writing.pop(account_id))

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._writing:
            await asyncio.wait(self._writing.values())

    async def _write(self, account_id: str, snapshot: Document) -> None:
        try:
            await self._snapshots.replace_one({"_id": account_id}, snapshot, upsert=True)
        except PyMongoError as error:
            log.debug("No snapshot of account %s: %s", account_id, brief(error))
