"""The collection `subject_keys`: by which the personal fields of events are encrypted.

One document for each subject, whose id is its `_id`: `since`, the version up to which it is
forgotten or 0, and `keys`, of which `v7` is that of the events after its forgetting at version 7.
Making a key takes none away. Forgetting raises `since` and deletes the keys of before; the document
stays, so that nobody makes one of that time again, and a key that was lost can be told from one
that was deleted. Nobody keeps a key in memory: what is deleted is gone for the next read.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from pipeline.eventstore import driver
from pipeline.eventstore.deadlines import Deadlines, Waiting
from pipeline.eventstore.errors import StoreUnavailable, VersionConflict, reachable
from pipeline.eventstore.write_results import refusals
from pipeline.model.derived import is_opened
from pipeline.model.events import Event
from pipeline.model.personal import (
    KEY_BYTES,
    Subject,
    SubjectKey,
    is_encrypted,
    opened,
    subjects_of,
)
from pipeline.support.correlation import detached
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

Document: TypeAlias = dict[str, Any]

DEADLINE: Final = 10.0
"""Seconds after which who waits for a new key gets `StoreUnavailable`."""
GROUP: Final = 500
"""Keys that are made, or read, with one request."""

_TRIES: Final = 8
"""Others may write the same document meanwhile, but not as often."""
_DAMAGED: Final = "the document of {} in subject_keys can't be used: others write it, or damaged it"


@dataclass(slots=True, eq=False)
class _Wanted(Waiting[SubjectKey]):
    """The key of what comes after that version."""

    since: int


class SubjectKeys:
    """Every method may raise `StoreUnavailable`."""

    def __init__(self, collection: "driver.Collection[Document]") -> None:
        self._keys = collection
        # For what would be wrong if it were rolled back, or read of a primary that was deposed.
        self._certain = collection.with_options(read_concern=ReadConcern("linearizable"))
        self._outage = Outage(log, "Making keys in MongoDB", first=0.01, most=1.0)
        self._wanted: deque[_Wanted] = deque()
        self._deadlines = Deadlines("MongoDB did not confirm a new key in time", DEADLINE)
        self._writer: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------- reading

    async def find(self, subjects: Collection[str]) -> dict[str, Subject]:
        """Those there are. That one is missing is certain."""
        found = await self.known(subjects)
        if missing := [each for each in subjects if each not in found]:
            found |= await self._find(self._certain, missing)
        return found

    async def known(self, subjects: Collection[str]) -> dict[str, Subject]:
        """Those there are, by the same query whether there are any or not. That one is missing is
        not certain: `readable` looks again."""
        return await self._find(self._keys, subjects)

    async def readable(
        self, events: Sequence[Event], known: Mapping[str, Subject] | None = None
    ) -> Sequence[Event]:
        """The same events with their personal fields, or with `FORGOTTEN` in their place, and those
        in their newest schema. One whose key is lost stays as it is. `known`: all keys of the
        events' subjects, if they are read already."""
        if not (subjects := subjects_of(events)):
            return events
        keys = await self.known(subjects) if known is None else known
        found = _opened(events, keys)
        if doubtful := {each["account_id"] for each in found if _is_closed(each)}:
            # A key may have been made meanwhile, and a deposed primary may not have the newest one.
            found = _opened(found, await self._find(self._certain, doubtful))
        return found

    async def _find(
        self, keys: "driver.Collection[Document]", subjects: Collection[str]
    ) -> dict[str, Subject]:
        ids, found = [*subjects], dict[str, Document]()
        for at in range(0, len(ids), GROUP):
            with reachable():
                found |= await _documents(keys, ids[at : at + GROUP])
        return {each: _subject_in(document) for each, document in found.items()}

    # ---------------------------------------------------------------- writing

    async def obtain(self, subject: str, since: int) -> SubjectKey:
        """The subject's key since that version, durably stored; it is made if there is none.

        It takes no other key away: that the subject is forgotten at that version may be stored or
        not. Those that are wanted at the same time are made together. Raises `VersionConflict` if
        the subject was forgotten later than that: what was decided on is old.
        """
        wanted = _Wanted(subject, asyncio.get_running_loop().create_future(), since)
        self._wanted.append(wanted)
        self._deadlines.add(wanted)
        if self._writer is None or self._writer.done():
            self._writer = detached(self._make_wanted())
        return await wanted.outcome

    async def forget(self, subject: str, since: int) -> bool:
        """Delete the subject's keys of the events before the version `since`, for good; returns
        whether there was one. May be repeated. The event that says so must be stored."""
        deleted = False
        for _ in range(_TRIES):
            with reachable():
                document = await self._certain.find_one({"_id": subject})
                if document is None:
                    # Its events are in clear: no key of then may be made from now on.
                    with suppress(DuplicateKeyError):
                        await self._keys.insert_one({"_id": subject, "since": since, "keys": {}})
                    continue
                found = _subject_in(document)
                older = {f"keys.v{each}": "" for each in found.keys if each < since}
                if found.since >= since and not older:
                    return deleted
                update: Document = {"$set": {"since": max(since, found.since)}}
                if older:
                    update["$unset"] = older
                await self._keys.update_one({"_id": subject, "since": found.since}, update)
                deleted = deleted or bool(older)
        raise StoreUnavailable(_DAMAGED.format(subject))

    async def close(self) -> None:
        """Wait for the keys that are being made."""
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=DEADLINE)

    async def _make_wanted(self) -> None:
        """Make the keys that are waited for, a group at a time; the next one gathers meanwhile."""
        attempt = 0
        while self._wanted:
            group = [self._wanted.popleft() for _ in range(min(GROUP, len(self._wanted)))]
            group = [each for each in group if not each.outcome.done()]
            try:
                await self._make(group)
            except PyMongoError as error:
                self._wanted.extendleft(reversed(group))
                await self._outage.pause(error, attempt)
                attempt += 1
            except Exception as error:
                log.exception("%d keys could not be made", len(group))
                for each in group:
                    each.end(StoreUnavailable(repr(error)))
            else:
                self._outage.over()
                attempt = 0

    async def _make(self, group: Sequence[_Wanted]) -> None:
        new = {each.account_id: Subject(0, {each.since: _new_key()}) for each in group}
        refused = await self._insert(new)
        known = {each: new[each] for at, each in enumerate(new) if at not in refused}
        if refused:
            there = await _documents(self._certain, [*(new.keys() - known.keys())])
            known |= {each: _subject_in(document) for each, document in there.items()}
        for each in group:
            subject, found = each.account_id, known.get(each.account_id)
            outcome = None if found is None else _outcome(subject, each.since, found)
            each.end(outcome or await self._added(subject, each.since))

    async def _insert(self, subjects: Mapping[str, Subject]) -> Collection[int]:
        """Insert those that are not there; returns the places of the others."""
        documents = [
            {"_id": each, "since": since, "keys": {f"v{of}": key for of, key in keys.items()}}
            for each, (since, keys) in subjects.items()
        ]
        try:
            if documents:
                await self._keys.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            return refusals(error)
        return ()

    async def _added(self, subject: str, since: int) -> SubjectKey | Exception:
        """The key, which is added to the subject's document."""
        for _ in range(_TRIES):
            document = await self._certain.find_one({"_id": subject})
            if document is None:
                return StoreUnavailable(f"the key of {subject} went away")
            found = _subject_in(document)
            if (outcome := _outcome(subject, since, found)) is not None:
                return outcome
            name = f"keys.v{since}"
            without = {"_id": subject, "since": found.since, name: {"$exists": False}}
            await self._keys.update_one(without, {"$set": {name: _new_key()}})
        return StoreUnavailable(_DAMAGED.format(subject))


async def _documents(
    keys: "driver.Collection[Document]", subjects: Sequence[str]
) -> dict[str, Document]:
    found = await keys.find({"_id": {"$in": subjects}}).to_list(None)
    return {each["_id"]: each for each in found}


def _opened(events: Sequence[Event], keys: Mapping[str, Subject]) -> list[Event]:
    return [
        opened(event, keys.get(event["account_id"])) if is_encrypted(event) else event
        for event in events
    ]


def _is_closed(event: Event) -> bool:
    return is_encrypted(event) and not is_opened(event)


def _outcome(subject: str, since: int, found: Subject) -> SubjectKey | VersionConflict | None:
    """The subject's key of that version, None if it has none."""
    if found.since > since:
        return VersionConflict(subject, found.since)
    key = found.keys.get(since)
    return None if key is None else SubjectKey(since, key)


def _new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def _subject_in(document: Document) -> Subject:
    since, keys = document.get("since"), document.get("keys")
    return Subject(
        since if isinstance(since, int) else 0,
        {
            int(name[1:]): key
            for name, key in (keys.items() if isinstance(keys, dict) else ())
            if name[1:].isdecimal() and isinstance(key, bytes) and len(key) == KEY_BYTES
        },
    )
