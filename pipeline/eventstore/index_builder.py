"""Builds the guards of `events` where they are missing or can't be trusted.

Where duplicates prevent that, they are named, and the index is built once a person has removed
them.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any, Final

from pymongo import IndexModel, timeout
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from pipeline.eventstore import duplicates
from pipeline.eventstore.build_markers import BuildMarkers
from pipeline.eventstore.guards import Guards, indexes_of
from pipeline.eventstore.indexes import (
    GUARDS,
    KEY,
    KEYS,
    NEW_KEYS,
    OLD_KEYS,
    Index,
    being_built,
    in_the_way,
    is_old,
    markers_of,
    name_of,
    named,
    trusted,
    wrong,
)
from pipeline.eventstore.write_results import Collection, refused_for_good
from pipeline.support.correlation import detached
from pipeline.support.retry import Outage, brief

log = logging.getLogger(__name__)

_INDEX_NOT_FOUND: Final = 27
_CONFLICTS: Final = frozenset({85, 86})
"""IndexOptionsConflict, IndexKeySpecsConflict."""
_LONGEST_BUILD: Final = 3600.0
"""Seconds."""
_REST: Final = 9
"""For how many times its own duration a build that has failed is not tried again."""
_LIST: Final = 1000


class IndexBuilder:
    """A process needs one instance; any number of processes may build at once."""

    def __init__(self, events: Collection, guards: Guards) -> None:
        self._events, self._guards = events, guards
        self._markers = BuildMarkers(events)
        self._outage = Outage(log, "Replacing the partial index of idempotency keys")
        self._replacing: asyncio.Task[None] | None = None
        self._duplicates: dict[str, list[Any]] = {}
        """The ids of the events that are known to prevent an index, by its name."""
        self._logged: dict[str, str] = {}
        self._resting_until = 0.0

    async def ensure(self, *, replace: bool) -> None:
        """Build what can't be trusted, or note in `Guards.hindrances` why that is not possible.

        A partial index of keys already enforces uniqueness, so its replacement, if this process is
        to make it (`replace`), is created in the background.
        """
        there, marked = await indexes_of(self._events), await self._markers.there()
        for guard in GUARDS:
            markers = [each for each in marked if each.startswith(markers_of(guard))]
            if not markers and any(trusted(index, guard) for index in there):
                self._guards.hindrances.pop(name_of(guard), None)
            elif all(map(self._markers.abandoned, markers)) and not any(
                being_built(index, guard) for index in there
            ):
                await self._build(guard, there, markers)
        if replace and any(is_old(index) for index in there):
            self._replace_in_background()

    async def close(self) -> None:
        """Cancel a replacement; the next forwarder that leads does it."""
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait({self._replacing})

    # ------------------------------------------------------------------ a missing guard

    async def _build(self, guard: IndexModel, there: list[Index], abandoned: Sequence[str]) -> None:
        name = name_of(guard)
        if known := await duplicates.named(self._events, guard, self._duplicates.get(name, [])):
            self._hinder(guard, known)
            return
        if name in self._guards.hindrances and time.monotonic() < self._resting_until:
            return
        began = time.monotonic()
        try:
            with timeout(_LONGEST_BUILD):  # replaces the client's socket timeout
                await self._create(guard, there, abandoned)
        except OperationFailure as error:
            await self._note_failure(guard, error)
            self._resting_until = time.monotonic() + _REST * (time.monotonic() - began)
        else:
            self._guards.hindrances.pop(name, None)

    async def _note_failure(self, guard: IndexModel, error: OperationFailure) -> None:
        """Note why the guard can't be built; raises an error that may pass."""
        name = name_of(guard)
        if isinstance(error, DuplicateKeyError):
            ids = self._duplicates[name] = await duplicates.find(self._events, guard)
            known = await duplicates.named(self._events, guard, ids)
            self._hinder(guard, known or {brief(error): 0})
        elif (refused := refused_for_good(error)) is not None:
            self._note(name, str(refused), str(refused))
        else:
            raise error

    def _hinder(self, guard: IndexModel, known: Mapping[str, int]) -> None:
        """The log names the duplicates; what everybody may read has their number alone."""
        counted = duplicates.counted(guard, sum(known.values()))
        self._note(name_of(guard), "; ".join(known), counted)

    def _note(self, name: str, logged: str, shown: str) -> None:
        if name not in self._guards.hindrances or self._logged.get(name) != logged:
            log.error("The index %s can't be built: %s", name, logged)
        self._logged[name] = logged
        self._guards.hindrances[name] = shown

    async def _create(
        self, guard: IndexModel, there: list[Index], abandoned: Sequence[str]
    ) -> None:
        """Create the guard under a name that is free, and drop the wrong ones.

        Not under the name of a wrong one: another process that drops that one may be late.
        """
        names = {str(index.get("name")) for index in there}
        revealed = [
            await self._reveal_or_drop(index)
            for index in there
            if in_the_way(index, guard) and not trusted(index, guard)
        ]
        numbers = (f"{name_of(guard)}_{n}" for n in count(2))
        free = next(name for name in chain([name_of(guard)], numbers) if name not in names)
        if abandoned or not any(revealed):
            parts = [each["name"] for each in there if trusted(each, guard) and not is_old(each)]
            await self._create_marked(guard, free, abandoned, parts)
        for index in there:
            if wrong(index, guard) and not in_the_way(index, guard):
                await self._drop(index["name"])

    async def _create_marked(
        self, guard: IndexModel, name: str, abandoned: Sequence[str], parts: Sequence[str]
    ) -> None:
        """Create it under a marker, which stays if nobody knows whether the index is whole.

        `parts`: the names of those that may not be. They were read before the marker was made, so
        a process that is late drops no index of the one that has taken its place.
        """
        if not abandoned:
            if not await self._events.find_one({}, {"_id": 1}):
                await self._created(guard, name)  # no part of it can lack an event
                return
            # A process that has built it on the empty collection may take events by now: a marker
            # would stop it.
            if await self._built(guard):
                return
        if (marker := await self._markers.announce(guard, abandoned)) is None:
            return
        if not abandoned and await self._built(guard, marker):
            await self._markers.remove(marker)
            return
        for part in parts:
            await self._drop(part)
        try:
            created = await self._created(guard, name)
        except OperationFailure as error:
            if isinstance(error, DuplicateKeyError) or refused_for_good(error):
                await self._markers.remove(marker)  # the server has built nothing
            raise
        if created:
            await self._markers.remove(marker)
        else:
            self._markers.give_up(marker)

    async def _built(self, guard: IndexModel, mine: str = "") -> bool:
        """Whether another process has built it meanwhile: the server lists it, and after that lists
        no marker of it but `mine`. In this order: a marker is there before its index."""
        if not any(trusted(index, guard) for index in await indexes_of(self._events)):
            return False
        markers = [each for each in await self._markers.there() if each != mine]
        return not any(each.startswith(markers_of(guard)) for each in markers)

    async def _created(self, guard: IndexModel, name: str) -> bool:
        """Create the index; whether the server has built it for this command: one that was there
        may be a part."""
        query = {
            "createIndexes": self._events.name,
            "indexes": [named(guard, name).document],
            "writeConcern": self._events.write_concern.document,
        }
        try:
            reply = await self._events.database.command(query)
        except OperationFailure as error:
            if error.code not in _CONFLICTS:  # a conflict: another process was first
                raise
            return False
        replies = reply.get("raw", {"": reply}).values()  # `raw`: by shard
        return any(r.get("numIndexesAfter", 1) > r.get("numIndexesBefore", 0) for r in replies)

    async def _reveal_or_drop(self, index: Index) -> bool:
        """Show a hidden index, which is right again then; drop one that makes events expire.
        Whether it was shown."""
        name = index["name"]
        if index.get("expireAfterSeconds") is None:
            show = {"collMod": self._events.name, "index": {"name": name, "hidden": False}}
            await self._events.database.command(show)
            there = await indexes_of(self._events)
            if not any(each.get("hidden") for each in there if each.get("name") == name):
                return True
        await self._drop(name)
        return False

    async def _drop(self, name: str) -> None:
        try:
            await self._events.drop_index(name)
        except OperationFailure as error:
            if error.code != _INDEX_NOT_FOUND:  # not found: another process has dropped it
                raise
        else:
            log.warning("Dropped the index %s", name)

    # ------------------------------------------------------------------ the partial index

    def _replace_in_background(self) -> None:
        if self._replacing is None or self._replacing.done():
            self._replacing = detached(self._outage.retry_forever(self._replace, PyMongoError))

    async def _replace(self) -> None:
        """Create the sparse index, then drop the partial one.

        In this order, and under another name, so that one of them is unique at every moment.
        """
        # Replaces the client's socket timeout: the embedded server is silent while it builds.
        with timeout(_LONGEST_BUILD):
            if NEW_KEYS in await self._events.index_information() and not await self._complete():
                await self._drop(NEW_KEYS)
            await self._events.create_indexes([KEYS])
            await self._drop(OLD_KEYS)
        log.warning("The index of idempotency keys is sparse now, no longer partial")

    async def _complete(self) -> bool:
        """Whether the sparse index has every key.

        The embedded server keeps a partly built index if it is killed while it builds one.
        """
        # Without a filter: one on the key may be answered from the very index in question.
        cursor = self._events.find({}, {KEY: 1}).batch_size(_LIST)
        while found := await cursor.to_list(_LIST):
            keys = [each[KEY] for each in found if KEY in each]
            query = self._events.find({KEY: {"$in": keys}}, {"_id": 1}).hint(NEW_KEYS)
            if len(await query.to_list(None)) < len(keys):
                return False
        return True
