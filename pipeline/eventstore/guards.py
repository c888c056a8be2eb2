"""Watches the guards of `events`: both unique indexes, and that the collection is the same one.

MongoDB keeps these promises, and anybody with access can take them away: drop an index, hide it,
drop the collection. So each append is preceded by a look that is not older than `FRESH` seconds.
A look that shows a unique index proves that all events stored before it are unique; what is stored
in the `FRESH` seconds before an index is found to be missing has no such proof.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from pymongo import timeout
from pymongo.errors import OperationFailure, PyMongoError

from pipeline.eventstore.errors import (
    StoreRefused,
    StoreUnavailable,
    StoreUnguarded,
    reachable,
)
from pipeline.eventstore.indexes import MARKERS, Index, faults, parts
from pipeline.eventstore.write_results import Collection, refused_for_good
from pipeline.support.correlation import detached

log = logging.getLogger(__name__)

FRESH: Final = 0.25
"""Seconds for which a look counts. It costs about half of an insert, so not each append has one."""
_AHEAD: Final = 0.1
"""Seconds after which the next look begins while appends go on: a busy bank never waits for one."""

_LONGEST_LOOK: Final = 1.5
"""Seconds. All appends wait for a look, which may be on a connection that has died silently."""

_NOTHING_INDEXED: Final = frozenset({26, 166})
"""NamespaceNotFound, CommandNotSupportedOnView."""


class Guards:
    """What the last look has shown; `faults` by the name of the guard, None before the first look.

    `epoch` rises when the guards were lost, when they are there again, and when the collection is
    another one: what was remembered of the events before may be wrong.
    """

    def __init__(self, events: Collection) -> None:
        self._events = events
        self.epoch = 0
        self.faults: Mapping[str, str] | None = None
        self._parts: Mapping[str, str] = {}
        self.hindrances: dict[str, str] = {}
        """Why a guard could not be built, by its name; without data of accounts, as `faults` is."""
        self._collection: object = None
        self._looked = 0.0
        self._looking: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Raise `StoreUnguarded` if the last look has shown faults."""
        if self.faults:
            raise StoreUnguarded(self._described(self.faults))

    async def look(self) -> None:
        """Look now; raises `StoreUnguarded` and `StoreUnavailable`."""
        with reachable():
            await self._look()
        self.check()

    async def require(self, epoch: int | None = None) -> None:
        """Look unless that was done just now; raises `StoreUnguarded`, and the driver's errors, or
        `StoreRefused` in place of one that is definite.

        With `epoch`, the one in which the caller has decided, it must still be the present one.
        """
        await self._fresh(bool(self.faults))
        self.check()
        if epoch not in (None, self.epoch):
            raise StoreUnguarded({"events": "the guards or the collection have just changed"})

    async def require_whole(self) -> None:
        """Look unless that was done just now; raises `StoreUnavailable` if what was read before may
        lack events, because MongoDB may have answered by a part of an index."""
        with reachable(), suppress(StoreRefused):  # who may not look still may read
            await self._fresh(bool(self._parts))
        if self._parts:
            raise StoreUnavailable("; ".join(self._parts.values()))

    async def _fresh(self, doubt: bool) -> None:
        """Look if the last look is too old, or in doubt."""
        age = time.monotonic() - self._looked if self.faults is not None else FRESH
        if doubt or age > _AHEAD:
            looking = self._begin()
            if doubt or age >= FRESH:
                await self._settled(looking)

    async def _settled(self, looking: "asyncio.Task[None]") -> None:
        try:
            # Cancelling a caller must not cancel the look: others may wait for it.
            await asyncio.shield(looking)
        except PyMongoError as error:
            if (refused := refused_for_good(error)) is not None:
                raise refused from error
            raise

    def _begin(self) -> "asyncio.Task[None]":
        """The look under way, or a new one."""
        if self._looking is None or self._looking.done():
            self._looking = detached(self._look())
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._looking

    async def _look(self) -> None:
        began = time.monotonic()
        with timeout(_LONGEST_LOOK):
            there, indexes = await asyncio.gather(
                collections_of(self._events), indexes_of(self._events)
            )
            if time.monotonic() - began > FRESH:
                # The server may have died and come back between the two answers. A marker of a
                # build is there before its index, so it must be looked for after the index.
                there = await collections_of(self._events)
        collection = there.pop(self._events.name, None)
        self._parts = parts(indexes, there)
        self._note(collection, faults(collection, indexes, there))
        self._looked = began

    def _note(self, collection: Mapping[str, Any] | None, found: dict[str, str]) -> None:
        before, self.faults = self.faults, found
        identity = collection and collection.get("info", {}).get("uuid")
        if before is not None:
            self.epoch += identity != self._collection or bool(found) != bool(before)
        self._collection = identity
        self.hindrances = {name: why for name, why in self.hindrances.items() if name in found}
        if found and found != before:
            log.error("No command is taken: %s", "; ".join(self._described(found).values()))
        elif before and not found:
            log.warning("The guards of the event store are there again")

    def _described(self, found: Mapping[str, str]) -> dict[str, str]:
        """With the reason why it can't be built."""
        reasons = {name: f" and can't be built: {why}" for name, why in self.hindrances.items()}
        return {name: fault + reasons.get(name, "") for name, fault in found.items()}


async def collections_of(events: Collection) -> dict[str, Mapping[str, Any]]:
    """The collection itself, if it exists, and the markers of builds, by name."""
    query = {"listCollections": 1, "filter": {"name": {"$regex": f"^({events.name}$|{MARKERS})"}}}
    found = (await events.database.command(query))["cursor"]["firstBatch"]
    return {each["name"]: each for each in found}


async def indexes_of(events: Collection) -> list[Index]:
    """The indexes, also those that are being built; none without the collection, or of a view."""
    query = {"listIndexes": events.name, "includeBuildUUIDs": True}
    try:
        return (await events.database.command(query))["cursor"]["firstBatch"]  # type: ignore[no-any-return]
    except OperationFailure as error:
        if error.code not in _NOTHING_INDEXED:
            raise
        return []
