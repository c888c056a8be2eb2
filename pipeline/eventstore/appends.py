"""Appending: single events in groups, several events in one transaction, each with its own outcome.

A reply may be lost while its write has landed. Nothing is guessed then: the same documents are
inserted again under the same ids, and a duplicate key is success when our own id is stored.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import bson
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo.errors import BulkWriteError, ConnectionFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from pipeline.events import Event
from pipeline.eventstore.errors import KeyTaken, StoreUnavailable, VersionConflict
from pipeline.outage import Outage

log = logging.getLogger(__name__)

Client: TypeAlias = "AsyncIOMotorClient[dict[str, Any]]"
Collection: TypeAlias = "AsyncIOMotorCollection[Event]"
Refused: TypeAlias = Mapping[str, Any]  # one of the server's writeErrors

DEADLINE: Final = 10.0
"""Seconds after which a caller is told that the outcome could not be learnt."""
GROUP: Final = 500
MAX_BYTES: Final = 256 * 1024
"""A larger event is refused: it has to fit into one message of the stream, too."""

_DUPLICATE_KEY, _WRITE_CONFLICT = 11000, 112
_CONFLICTS: Final = 12
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 1.0


@dataclass(slots=True, eq=False)
class _Entry:
    """An event on its way, and whoever waits for its outcome."""

    event: Event
    document: RawBSONDocument
    outcome: asyncio.Future[None]

    def settle(self, error: Exception | None = None) -> None:
        if self.outcome.done():  # its caller was cancelled or ran out of time
            return
        if error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(error)


class Appender:
    """Writes into the collection `events`. One of these for each process is enough."""

    def __init__(self, client: Client, collection: Collection) -> None:
        self._client, self._events = client, collection
        # Not only read on the primary but proven durable: what it shows can't be rolled back.
        self._proven = collection.with_options(read_concern=ReadConcern("linearizable"))
        self._waiting: deque[_Entry] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._transactions: set[asyncio.Task[None]] = set()
        self._outage = Outage(log, "Appending to MongoDB", first=_FIRST_PAUSE, most=_LONGEST_PAUSE)

    async def one(self, event: Event) -> None:
        """Append one event, with all others that wait at this moment."""
        entry = _Entry(event, _encode(event), asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await _in_time(entry.outcome)

    async def together(self, events: Sequence[Event]) -> None:
        """Append all of the events, or none, in one transaction."""
        task = asyncio.create_task(self._transact(events, [_encode(event) for event in events]))
        self._transactions.add(task)
        task.add_done_callback(self._forget)
        # A caller who is cancelled leaves the transaction to end by itself.
        await _in_time(asyncio.shield(task))

    async def close(self) -> None:
        """Wait for what is under way."""
        tasks = [*self._transactions, *([self._writer] if self._writer else [])]
        if tasks:
            await asyncio.wait(tasks, timeout=DEADLINE)

    # ---------------------------------------------------------------- groups

    async def _write(self) -> None:
        """Insert what waits, a group at a time; the next gathers while one is under way."""
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP))]
            try:
                await self._write_group(group)
            except Exception as error:
                log.exception("A group of %d events could not be written", len(group))
                for entry in group:
                    entry.settle(StoreUnavailable(repr(error)))

    async def _write_group(self, group: list[_Entry]) -> None:
        """Insert until every entry has an outcome, or no one waits for it any longer."""
        attempt = 0
        while live := [entry for entry in group if not entry.outcome.done()]:
            try:
                refused = await self._insert([entry.document for entry in live])
                ours = await self._ours([live[i].event for i in refused])
            except PyMongoError as error:
                await self._outage.pause(error, attempt)
            else:
                self._outage.over()
                for number, entry in enumerate(live):
                    _settle(entry, refused.get(number), entry.event["_id"] in ours)
                if not all(entry.outcome.done() for entry in live):
                    await asyncio.sleep(_FIRST_PAUSE)
            attempt += 1

    async def _insert(self, documents: Sequence[RawBSONDocument]) -> dict[int, Refused]:
        """Insert; return the errors of the refused ones by their index."""
        try:
            await self._events.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if error.details["writeConcernErrors"]:
                raise
            return {refused["index"]: refused for refused in error.details["writeErrors"]}
        return {}

    async def _ours(self, refused: Sequence[Event]) -> set[str]:
        """The ids of those that were refused because they are stored already, and durably so."""
        if not refused:
            return set()
        found = self._proven.find({"_id": {"$in": [event["_id"] for event in refused]}}, {"_id": 1})
        return {document["_id"] for document in await found.to_list(None)}

    # ---------------------------------------------------------------- transactions

    async def _transact(self, events: Sequence[Event], documents: list[RawBSONDocument]) -> None:
        """Try until the transaction is committed or refused, or the time is up."""
        clock = asyncio.get_running_loop().time
        end, failures, conflicts = clock() + DEADLINE, 0, 0
        while clock() < end:
            try:
                refused = await self._commit(documents)
                if refused and len(await self._ours(events)) < len(events):
                    raise _refusal(events[refused["index"]], refused)
                return self._outage.over()
            except PyMongoError as error:
                if not _lost_a_race(error):
                    await self._outage.pause(error, failures)
                    failures += 1
                    continue
            conflicts += 1
            if conflicts == _CONFLICTS:
                raise VersionConflict(events[0]["account_id"], events[0]["version"])
            await asyncio.sleep(_FIRST_PAUSE * random.uniform(0, conflicts))
        raise StoreUnavailable("MongoDB did not tell in time what became of a transaction")

    async def _commit(self, documents: list[RawBSONDocument]) -> Refused | None:
        """Insert all and commit; return the duplicate key that was in the way, if any."""
        try:
            async with await self._client.start_session() as session, session.start_transaction():
                await self._events.insert_many(documents, session=session)
        except BulkWriteError as error:
            for refused in error.details["writeErrors"]:
                if refused["code"] == _DUPLICATE_KEY:
                    return dict(refused)
            raise
        return None

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._transactions.discard(task)
        if not task.cancelled():
            task.exception()  # seen: its caller may have gone


def _settle(entry: _Entry, refused: Refused | None, stored: bool) -> None:
    if refused is None or stored:
        entry.settle()
    elif refused["code"] != _WRITE_CONFLICT:  # lost against an open transaction: once more
        entry.settle(_refusal(entry.event, refused))


def _refusal(event: Event, refused: Refused) -> Exception:
    """What a server's write error means to whoever wanted the event stored."""
    if refused["code"] != _DUPLICATE_KEY:
        return StoreUnavailable(str(refused["errmsg"]))
    if "idempotency_key" in (refused.get("keyPattern") or refused["errmsg"].split("dup key")[0]):
        return KeyTaken(event["idempotency_key"])
    return VersionConflict(event["account_id"], event["version"])


def _lost_a_race(error: PyMongoError) -> bool:
    """Whether a transaction was aborted for another one's sake: nothing of it is stored."""
    transient = error.has_error_label("TransientTransactionError")
    return transient and not isinstance(error, ConnectionFailure)


def _encode(event: Event) -> RawBSONDocument:
    """Encode at once: what can't be encoded fails its own caller, not the group it would be in."""
    encoded = bson.encode(event)
    if len(encoded) > MAX_BYTES:
        raise ValueError(f"an event of {len(encoded)} bytes; at most {MAX_BYTES} can be stored")
    return RawBSONDocument(encoded)


async def _in_time(outcome: asyncio.Future[None]) -> None:
    try:
        async with asyncio.timeout(DEADLINE):
            await outcome
    except TimeoutError:
        raise StoreUnavailable("MongoDB did not answer in time") from None
