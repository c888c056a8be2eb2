"""Watching: the change stream of `events`, read in whole batches, one batch ahead.

An aggregate with `$changeStream`, then `getMore`, as plain commands in one session: several times
the rate of the driver's own change stream, which hops between threads for every change.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import bson
from bson import json_util
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure, PyMongoError

from pipeline.eventstore.driver import Session
from pipeline.eventstore.errors import HistoryLost, StoreUnavailable, reachable
from pipeline.eventstore.write_results import Collection
from pipeline.model.events import Event

BATCH: Final = 1000
WAIT_MS: Final = 500
"""How long the server waits for a first change before it answers with an empty batch."""

Cursor: TypeAlias = Mapping[str, Any]
"""A reply or the cursor in it; the documents within are `RawBSONDocument`s."""

_INSERTS: Final = {"$match": {"operationType": "insert"}}
# FailedToParse, CappedPositionLost, CloseChangeStream, InvalidResumeToken,
# ChangeStreamFatalError, ChangeStreamHistoryLost
_LOST: Final = frozenset({9, 136, 222, 260, 280, 286})
_LEAVE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Changes:
    """Events in the order in which they were stored, and the token to go on with after them."""

    events: list[Event]
    token: str


@asynccontextmanager
async def watch(events: Collection, token: str | None) -> AsyncIterator[AsyncIterator[Changes]]:
    """Follow the inserts after `token`, or from now on, until the block is left.

    The first of the changes comes at once and is only the token to begin with. Entering and
    reading raise `HistoryLost` or `StoreUnavailable`: then enter anew.
    """
    with reachable():
        session = await events.database.client.start_session()
    try:
        collection = await identity(events)
        cursor = (await opened(events, session, position(token, collection)))["cursor"]
        async with aclosing(_read(events, session, cursor, collection)) as changes:
            yield changes
    finally:
        with reachable():
            await session.end_session()


async def identity(events: Collection) -> str:
    """The collection's uuid: tells it from one of the same name that was made later."""
    query = {"listCollections": 1, "filter": {"name": events.name}}
    with reachable():
        found = (await events.database.command(query))["cursor"]["firstBatch"]
    return found[0]["info"]["uuid"].hex() if found else ""


def position(token: str | None, collection: str) -> dict[str, Any]:
    """What tells the change stream of that collection where to begin. Raises `HistoryLost`."""
    if token is None:
        return {}
    told = _told(token)
    if told is None:
        raise HistoryLost(f"this is no resume token: {token[:80]!r}")
    theirs, after = told
    if theirs != collection:
        raise HistoryLost("the collection `events` is not the one that the token is of")
    return {"resumeAfter": after}


def token_time(token: str | None) -> float | None:
    """When the change that the token stands at was made, in seconds since 1970.

    None for one that does not tell: only MongoDB's begin with the cluster time, as 0x82 and its
    seconds and increment in big-endian order.
    """
    told = _told(token or "")
    try:
        data = bytes.fromhex(told[1]["_data"]) if told else b""
    except ValueError:
        return None
    return float(int.from_bytes(data[1:5])) if data[:1] == b"\x82" and len(data) >= 9 else None


def _told(token: str) -> tuple[str, dict[str, Any]] | None:
    """The collection and the driver's token in ours; None for what anybody may have published."""
    try:
        told = json_util.loads(token)
        theirs, after = told["collection"], told["after"]
    except (ValueError, TypeError, KeyError, BSONError, RecursionError):
        return None
    sound = isinstance(after, dict) and isinstance(after.get("_data"), str)
    return (theirs, after) if sound else None


def raw_batch_of(cursor: Cursor) -> list[RawBSONDocument]:
    """The changes that a reply brought, as they came."""
    return cursor["nextBatch"] if "nextBatch" in cursor else cursor["firstBatch"]  # type: ignore[no-any-return]


def batch_of(events: Collection, cursor: Cursor) -> list[dict[str, Any]]:
    """The changes that a reply brought."""
    options: Any = events.codec_options
    return [bson.decode(change.raw, options) for change in raw_batch_of(cursor)]


def token_of(cursor: Cursor) -> dict[str, Any]:
    """The driver's resume token after a reply."""
    return bson.decode(cursor["postBatchResumeToken"].raw)


def _changes(events: Collection, cursor: Cursor, collection: str) -> Changes:
    told = {"collection": collection, "after": token_of(cursor)}
    found = [change["fullDocument"] for change in batch_of(events, cursor)]
    return Changes(found, json_util.dumps(told))


async def opened(
    events: Collection,
    session: Session,
    after: dict[str, Any],
    size: int = 0,
) -> Cursor:
    """The whole reply; its first batch has up to `size` changes."""
    query = {
        "aggregate": events.name,
        "pipeline": [{"$changeStream": after}, _INSERTS],
        "cursor": {"batchSize": size},
    }
    return await _answer(events, session, query)


async def more(
    events: Collection, session: Session, cursor_id: int, wait_ms: int = WAIT_MS
) -> Cursor:
    query = {"getMore": cursor_id, "collection": events.name, "batchSize": BATCH}
    reply = await _answer(events, session, {**query, "maxTimeMS": wait_ms})
    return reply["cursor"]  # type: ignore[no-any-return]


async def _answer(events: Collection, session: Session, query: dict[str, Any]) -> Cursor:
    """The reply as it came: it is decoded while the server makes the next one."""
    raw = events.codec_options.with_options(document_class=RawBSONDocument)
    try:
        return await events.database.command(query, session=session, codec_options=raw)  # type: ignore[no-any-return]
    except OperationFailure as error:
        if error.code in _LOST:
            raise HistoryLost(str(error)) from error
        raise StoreUnavailable(str(error)) from error
    except PyMongoError as error:
        raise StoreUnavailable(str(error)) from error


async def _read(
    events: Collection, session: Session, cursor: Cursor, collection: str
) -> AsyncGenerator[Changes, None]:
    """The changes of a cursor; the next batch is under way while the last one is consumed."""
    ahead: asyncio.Task[Cursor] | None = None
    try:
        while cursor["id"]:
            ahead = asyncio.create_task(more(events, session, cursor["id"]))
            await asyncio.sleep(0)  # let it set out before the consumer works on this batch
            yield _changes(events, cursor, collection)
            cursor = await asyncio.shield(ahead)
        yield _changes(events, cursor, collection)
        raise HistoryLost("the collection `events` was dropped or renamed")
    finally:
        if ahead is not None:
            await _leave(events, session, cursor["id"], ahead)


async def _leave(
    events: Collection,
    session: Session,
    cursor_id: int,
    ahead: asyncio.Task[Cursor],
) -> None:
    """Free the cursor, after the command under way, for a session has one at a time."""
    ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait({ahead}, timeout=_LEAVE_SECONDS)
    if cursor_id and ahead.done() and not ahead.exception():
        with suppress(PyMongoError):
            query = {"killCursors": events.name, "cursors": [cursor_id]}
            await events.database.command(query, session=session)
