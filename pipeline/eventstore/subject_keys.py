"""The collection `subject_keys`: by which the personal fields of events are encrypted.

One document for each subject, whose id is its `_id`: `since`, the version of its last forgetting or
0, and `key`, of the events after that one. Forgetting raises `since` and takes the key away; the
document stays, so that nobody makes a key of that time again, and a key that was lost can be told
from one that was deleted. No reader keeps a key: what is deleted is gone for the next read.
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
from pipeline.eventstore.errors import StoreUnavailable, VersionConflict, reachable
from pipeline.eventstore.write_results import refusals
from pipeline.model.derived import is_opened
from pipeline.model.events import Event
from pipeline.model.personal import KEY_BYTES, SubjectKey, is_encrypted, opened, subjects_of
from pipeline.support.correlation import detached
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

Document: TypeAlias = dict[str, Any]

DEADLINE: Final = 10.0
"""Seconds after which who waits for a new key gets `StoreUnavailable`."""
GROUP: Final = 500
"""Keys that are made, or read, with one request."""


@dataclass(slots=True, eq=False)
class _Wanted:
    """A key that somebody waits for."""

    subject: str
    since: int
    outcome: asyncio.Future[SubjectKey]


class SubjectKeys:
    """Every method may raise `StoreUnavailable`."""

    def __init__(self, collection: "driver.Collection[Document]") -> None:
        self._keys = collection
        # For what would be wrong if it were rolled back, or read of a primary that was deposed.
        self._certain = collection.with_options(read_concern=ReadConcern("linearizable"))
        self._outage = Outage(log, "Making keys in MongoDB", first=0.01, most=1.0)
        self._wanted: deque[_Wanted] = deque()
        self._writer: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------- reading

    async def find(self, subjects: Collection[str]) -> dict[str, SubjectKey]:
        """Those there are. That one is missing is certain."""
        found = await self._find(self._keys, subjects)
        if missing := [each for each in subjects if each not in found]:
            found |= await self._find(self._certain, missing)
        return found

    async def one(self, subject: str) -> SubjectKey | None:
        """One subject's, for certain: by one query, whether there is one or not."""
        with reachable():
            found = await self._certain.find_one({"_id": subject})
        return None if found is None else _key_in(found)

    async def readable(
        self, events: Sequence[Event], known: Mapping[str, SubjectKey] | None = None
    ) -> Sequence[Event]:
        """The same events with their personal fields, or with `FORGOTTEN` in their place, and those
        in their newest schema. One whose key is lost stays as it is. `known`: all keys of the
        events' subjects, if they are read already."""
        if not (subjects := subjects_of(events)):
            return events
        keys = await self.find(subjects) if known is None else known
        found = [
            opened(event, keys.get(event["account_id"])) if is_encrypted(event) else event
            for event in events
        ]
        if known is not None and any(is_encrypted(each) and not is_opened(each) for each in found):
            return await self.readable(found)  # perhaps of a key that was made meanwhile
        return found

    async def _find(
        self, keys: "driver.Collection[Document]", subjects: Collection[str]
    ) -> dict[str, SubjectKey]:
        ids, found = [*subjects], dict[str, SubjectKey]()
        for at in range(0, len(ids), GROUP):
            with reachable():
                documents = await keys.find({"_id": {"$in": ids[at : at + GROUP]}}).to_list(None)
            found |= {each["_id"]: _key_in(each) for each in documents}
        return found

    # ---------------------------------------------------------------- writing

    async def obtain(self, subject: str, since: int) -> SubjectKey:
        """The subject's key since that version, durably stored; it is made if there is none.

        Those that are wanted at the same time are made together. Raises `VersionConflict` if the
        subject was forgotten later than that: what was decided on is old.
        """
        outcome: asyncio.Future[SubjectKey] = asyncio.get_running_loop().create_future()
        self._wanted.append(_Wanted(subject, since, outcome))
        if self._writer is None or self._writer.done():
            self._writer = detached(self._make_wanted())
        try:
            async with asyncio.timeout(DEADLINE):
                return await outcome
        except TimeoutError:
            raise StoreUnavailable("MongoDB did not confirm a new key in time") from None

    async def forget(self, subject: str, since: int) -> bool:
        """Delete the subject's key of the events before the version `since`, for good; returns
        whether there was one. May be repeated."""
        with reachable():
            older = {"_id": subject, "since": {"$lt": since}}
            before = await self._keys.find_one_and_update(
                older, {"$set": {"since": since}, "$unset": {"key": ""}}
            )
            if before is not None:
                return "key" in before
            # Events of an earlier release are in clear: no key of then may be made from now on. One
            # that is there was forgotten already, up to that version or later.
            with suppress(DuplicateKeyError):
                await self._keys.insert_one({"_id": subject, "since": since})
        return False

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
                    _settle(each, StoreUnavailable(repr(error)))
            else:
                self._outage.over()
                attempt = 0

    async def _make(self, group: Sequence[_Wanted]) -> None:
        documents: dict[str, Document] = {}
        for each in group:
            new = {"_id": each.subject, "since": each.since, "key": secrets.token_bytes(KEY_BYTES)}
            documents.setdefault(each.subject, new)
        refused = await self._insert([*documents.values()])
        there = {subject for at, subject in enumerate(documents) if at in refused}
        for each in group:
            document = documents[each.subject]
            if each.subject in there or document["since"] != each.since:
                _settle(each, await self._existing(each.subject, each.since))
            else:
                _settle(each, _key_in(document))

    async def _insert(self, documents: Sequence[Document]) -> Collection[int]:
        """Insert those that are not there; returns the places of the others."""
        if not documents:
            return ()
        try:
            await self._keys.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            return refusals(error)
        return ()

    async def _existing(self, subject: str, since: int) -> SubjectKey | Exception:
        """The key of a subject that has a document."""
        while True:
            found = await self._certain.find_one({"_id": subject})
            if found is None:
                return StoreUnavailable(f"the key of {subject} went away")
            key = _key_in(found)
            if key.since > since:
                return VersionConflict(subject, key.since)
            if key.since == since and key.key is not None:
                return key
            # Without a key, or forgotten at a version up to which nobody deleted it: the event that
            # says so is stored, so this deletes it.
            new = {"since": since, "key": secrets.token_bytes(KEY_BYTES)}
            same = {"_id": subject, "since": key.since, "key": found.get("key")}
            await self._keys.update_one(same, {"$set": new})


def _key_in(document: Document) -> SubjectKey:
    since, key = document.get("since"), document.get("key")
    sound = isinstance(key, bytes) and len(key) == KEY_BYTES
    return SubjectKey(since if isinstance(since, int) else 0, key if sound else None)


def _settle(wanted: _Wanted, outcome: SubjectKey | Exception) -> None:
    if wanted.outcome.done():  # its caller was cancelled, or has stopped waiting
        return
    if isinstance(outcome, Exception):
        wanted.outcome.set_exception(outcome)
    else:
        wanted.outcome.set_result(outcome)
