"""Looking ahead: the events that a reader of the change stream has yet to read, and no more.

They are read up to what the server held when it was asked, so that it ends under load too. Nothing
is kept open, and nobody else notices.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bson import Timestamp
from pymongo.errors import PyMongoError

from pipeline.eventstore.changes import (
    BATCH,
    Cursor,
    batch_of,
    identity,
    more,
    opened,
    position,
    raw_batch_of,
    token_of,
)
from pipeline.eventstore.driver import Session
from pipeline.eventstore.errors import HistoryLost, reachable
from pipeline.eventstore.write_results import Collection
from pipeline.model.events import Event

_WAIT_MS: Final = 20


@dataclass(frozen=True, slots=True)
class ChangeBacklog:
    """Events in the order in which they were stored. Unless `complete` there are more of them."""

    events: list[Event]
    complete: bool


async def change_backlog(
    events: Collection, token: str, *, most: int, seconds: float
) -> ChangeBacklog:
    """The inserts after `token` until now: about `most`, or as many as come within the time.

    Raises `HistoryLost` and `StoreUnavailable`. A cancelled caller leaves the reading to end by
    itself, for a session must not be left in the middle of a command.
    """
    reading = asyncio.create_task(_read(events, token, most, time.monotonic() + seconds))
    reading.add_done_callback(lambda task: task.cancelled() or task.exception())
    return await asyncio.shield(reading)


async def _read(events: Collection, token: str, most: int, until: float) -> ChangeBacklog:
    after = position(token, await identity(events))
    with reachable():
        session = await events.database.client.start_session()
    try:
        return await _until_now(events, session, after, most, until)
    finally:
        with reachable():
            await session.end_session()


async def _until_now(
    events: Collection,
    session: Session,
    after: dict[str, Any],
    most: int,
    until: float,
) -> ChangeBacklog:
    reply = await opened(events, session, after, BATCH)
    now, cursor = reply["operationTime"], reply["cursor"]
    found = [*_events(events, cursor, now)]
    while not (complete := _reached(cursor, now)):
        if not cursor["id"]:
            raise HistoryLost("the collection `events` was dropped or renamed")
        if len(found) >= most or time.monotonic() > until:
            break
        cursor = await more(events, session, cursor["id"], _WAIT_MS)
        found += _events(events, cursor, now)
    with suppress(PyMongoError):
        kill = {"killCursors": events.name, "cursors": [cursor["id"]]}
        await events.database.command(kill, session=session)
    return ChangeBacklog(found, complete)


def _events(events: Collection, cursor: Cursor, now: Timestamp) -> Iterator[Event]:
    for change in batch_of(events, cursor):
        if change["clusterTime"] <= now:
            event = change["fullDocument"]
            if not isinstance(event.get("created_at"), datetime):  # somebody's hand was there
                event["created_at"] = change["clusterTime"].as_datetime().replace(tzinfo=None)
            yield event


def _reached(cursor: Cursor, now: Timestamp) -> bool:
    """Whether all up to `now` was read: what came is newer, or nothing came.

    A sharded MongoDB also answers with nothing when one shard is slow. Its token then tells the
    time that was reached, in the first bytes after 0x82.
    """
    if batch := raw_batch_of(cursor):
        return bool(batch[-1]["clusterTime"] > now)
    token = token_of(cursor)["_data"]
    if isinstance(token, str) and token.startswith("82"):
        return Timestamp(int(token[2:10], 16), int(token[10:18], 16)) >= now
    return True
