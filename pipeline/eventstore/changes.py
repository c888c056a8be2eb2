"""Reads the change stream of `events` in whole batches, one batch ahead.

It sends `aggregate` with `$changeStream`, then `getMore`, as plain commands. That is five times as
fast as Motor's change stream, which switches threads for every change.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
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
WAIT_MS: Final = 1000
"""How long the server may wait for a change before it answers with an empty batch."""
PACE_SECONDS: Final = 0.010
"""The shortest time between two requests while changes come a few at a time. A request that waits
is answered with the first change alone, and each batch costs MongoDB, JetStream and the workers
about as much for one event as for ten. Twice as long saves them a quarter more, and everybody waits
for 5 ms more."""
FEW: Final = 100
"""The changes of a batch below which the next request waits. With more there may be a backlog."""
EMPTY_PACE_SECONDS: Final = 0.200
"""The same after an empty batch, for who wants events of a few kinds. MongoDB waits for one of
them; the embedded server answers at any write, so it would be asked once for every event. Who wants
all events is not to wait: a snapshot that is written is answered with an empty batch, too."""

Cursor: TypeAlias = Mapping[str, Any]
"""A reply, or the cursor in it; its documents are `RawBSONDocument`s."""

# FailedToParse, CappedPositionLost, CloseChangeStream, InvalidResumeToken,
# ChangeStreamFatalError, ChangeStreamHistoryLost
_LOST: Final = frozenset({9, 136, 222, 260, 280, 286})
# The embedded server's token after an index was created or dropped is one of the database's `$cmd`,
# and it refuses that one as Unauthorized.
_OTHER_NAMESPACE: Final = "Resume token namespace does not match"
_LEAVE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Changes:
    """Events in the order in which they were stored, and the resume token after them."""

    events: list[Event]
    token: str


@asynccontextmanager
async def watch(
    events: Collection, token: str | None, kinds: Iterable[str] | None = None
) -> AsyncIterator[AsyncIterator[Changes]]:
    """Follow the inserts after `token`, or from now on, until the block is left; with `kinds` only
    those of events of these kinds.

    The first `Changes` comes at once, has no events, and has the token of the start. Entering and
    reading raise `HistoryLost` or `StoreUnavailable`; then open a new watch.
    """
    # One session for all commands: MongoDB accepts a getMore only in its aggregate's session.
    with reachable():
        session = await events.database.client.start_session()
    try:
        collection = await identity(events)
        reply = await opened(events, session, position(token, collection), kinds=kinds)
        cursor = reply["cursor"]
        pause = 0.0 if kinds is None else EMPTY_PACE_SECONDS
        async with aclosing(_read(events, session, cursor, collection, pause)) as changes:
            yield changes
    finally:
        with reachable():
            await session.end_session()


async def identity(events: Collection) -> str:
    """The collection's uuid, which differs from that of a later collection of the same name."""
    query = {"listCollections": 1, "filter": {"name": events.name}}
    with reachable():
        found = (await events.database.command(query))["cursor"]["firstBatch"]
    return found[0]["info"]["uuid"].hex() if found else ""


def position(token: str | None, collection: str) -> dict[str, Any]:
    """The `$changeStream` options that resume after the token; none for no token.

    Raises `HistoryLost` for a token that is invalid or belongs to another collection.
    """
    if token is None:
        return {}
    parsed = _parsed(token)
    if parsed is None:
        raise HistoryLost(f"this is no resume token: {token[:80]!r}")
    origin, after = parsed
    if origin != collection:
        raise HistoryLost("the collection `events` is not the one that the token is of")
    return {"resumeAfter": after}


def token_time(token: str | None) -> float | None:
    """The cluster time of the token's change, in seconds since 1970; None if it has none.

    Only MongoDB's tokens have one: they begin with 0x82, then seconds and increment, each a
    big-endian 32-bit integer.
    """
    parsed = _parsed(token or "")
    try:
        data = bytes.fromhex(parsed[1]["_data"]) if parsed else b""
    except ValueError:
        return None
    return float(int.from_bytes(data[1:5])) if data[:1] == b"\x82" and len(data) >= 9 else None


def _parsed(token: str) -> tuple[str, dict[str, Any]] | None:
    """The collection's uuid and MongoDB's resume token; None if the token is invalid.

    The token comes from a header in the stream, where anybody with access may publish anything.
    """
    try:
        fields = json_util.loads(token)
        origin, after = fields["collection"], fields["after"]
    except (ValueError, TypeError, KeyError, BSONError, RecursionError):
        return None
    sound = isinstance(after, dict) and isinstance(after.get("_data"), str)
    return (origin, after) if sound else None


def raw_batch_of(cursor: Cursor) -> list[RawBSONDocument]:
    """The changes of a reply, not decoded yet."""
    return cursor["nextBatch"] if "nextBatch" in cursor else cursor["firstBatch"]  # type: ignore[no-any-return]


def batch_of(events: Collection, cursor: Cursor) -> list[dict[str, Any]]:
    """The changes of a reply, decoded."""
    options: Any = events.codec_options
    return [bson.decode(change.raw, options) for change in raw_batch_of(cursor)]


def token_of(cursor: Cursor) -> dict[str, Any]:
    """MongoDB's resume token after a reply, also after an empty one."""
    return bson.decode(cursor["postBatchResumeToken"].raw)


def _changes(events: Collection, cursor: Cursor, collection: str) -> Changes:
    token = {"collection": collection, "after": token_of(cursor)}
    found = [change["fullDocument"] for change in batch_of(events, cursor)]
    return Changes(found, json_util.dumps(token))


async def opened(
    events: Collection,
    session: Session,
    after: dict[str, Any],
    size: int = 0,
    kinds: Iterable[str] | None = None,
) -> Cursor:
    """Open a change stream; return the whole reply, whose first batch has up to `size` changes.

    With the size 0 the reply comes at once, with nothing but the token.
    """
    wanted: dict[str, Any] = {"operationType": "insert"}
    if kinds is not None:
        wanted["fullDocument.kind"] = {"$in": sorted(kinds)}
    query = {
        "aggregate": events.name,
        "pipeline": [{"$changeStream": after}, {"$match": wanted}],
        "cursor": {"batchSize": size},
    }
    return await _answer(events, session, query)


async def more(
    events: Collection, session: Session, cursor_id: int, wait_ms: int = WAIT_MS
) -> Cursor:
    """The next batch of a cursor; the server may wait `wait_ms` for its first change."""
    query = {"getMore": cursor_id, "collection": events.name, "batchSize": BATCH}
    reply = await _answer(events, session, {**query, "maxTimeMS": wait_ms})
    return reply["cursor"]  # type: ignore[no-any-return]


async def _answer(events: Collection, session: Session, query: dict[str, Any]) -> Cursor:
    """The reply, not decoded yet: its decoding overlaps with the server's work on the next."""
    raw = events.codec_options.with_options(document_class=RawBSONDocument)
    try:
        return await events.database.command(query, session=session, codec_options=raw)  # type: ignore[no-any-return]
    except OperationFailure as error:
        if error.code in _LOST or _OTHER_NAMESPACE in str(error):
            raise HistoryLost(str(error)) from error
        raise StoreUnavailable(str(error)) from error
    except PyMongoError as error:
        raise StoreUnavailable(str(error)) from error


async def _read(
    events: Collection, session: Session, cursor: Cursor, collection: str, after_none: float
) -> AsyncGenerator[Changes, None]:
    """The changes of a cursor; the next batch is requested while a batch is consumed, but
    `after_none` seconds at least after the request that an empty one answers."""
    ahead: asyncio.Task[Cursor] | None = None
    clock, due = asyncio.get_running_loop().time, 0.0
    try:
        while cursor["id"]:
            number = len(raw_batch_of(cursor))
            pace = after_none if number == 0 else PACE_SECONDS if number < FEW else 0.0
            due = max(clock(), due + pace)
            ahead = asyncio.create_task(_more_at(due, events, session, cursor["id"]))
            await asyncio.sleep(0)  # lets the task send its request before the consumer runs
            yield _changes(events, cursor, collection)
            # Cancelling the reader must not cancel the request: `_leave` waits for its end.
            cursor = await asyncio.shield(ahead)
        # The cursor id is 0: an invalidate event has closed the stream.
        yield _changes(events, cursor, collection)
        raise HistoryLost("the collection `events` was dropped or renamed")
    finally:
        if ahead is not None:
            await _leave(events, session, cursor["id"], ahead)


async def _more_at(due: float, events: Collection, session: Session, cursor_id: int) -> Cursor:
    """The next batch, requested at that time of the loop's clock."""
    if (pause := due - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(pause)
    return await more(events, session, cursor_id)


async def _leave(
    events: Collection,
    session: Session,
    cursor_id: int,
    ahead: asyncio.Task[Cursor],
) -> None:
    """Wait for the command in flight, then close the cursor: a session runs one at a time."""
    ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait({ahead}, timeout=_LEAVE_SECONDS)
    if cursor_id and ahead.done() and not ahead.exception():
        with suppress(PyMongoError):
            query = {"killCursors": events.name, "cursors": [cursor_id]}
            await events.database.command(query, session=session)
