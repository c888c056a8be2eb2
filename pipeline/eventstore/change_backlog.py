"""Reads the change backlog: the events that a reader of the change stream has yet to read.

The read ends at the server's operation time when it began, so that it ends under load too. It uses
a cursor and a session of its own and closes both; it does not affect the forwarder.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
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
"""How long the server may wait for a change before it answers with an empty batch."""


@dataclass(frozen=True, slots=True)
class ChangeBacklog:
    """Events in the order in which they were stored. Unless `complete`, there are more."""

    events: list[Event]
    complete: bool


async def change_backlog(
    events: Collection,
    token: str,
    *,
    most: int,
    seconds: float,
    kinds: Iterable[str] | None = None,
) -> ChangeBacklog:
    """The inserts after `token` until now: about `most`, or as many as arrive within `seconds`;
    with `kinds` only those of events of these kinds.

    Raises `HistoryLost` and `StoreUnavailable`.
    """
    # Cancelling the caller must not cancel the read: a session can't be ended during a command.
    until = time.monotonic() + seconds
    reading = asyncio.create_task(_read(events, token, most, until, kinds))
    reading.add_done_callback(lambda task: task.cancelled() or task.exception())
    return await asyncio.shield(reading)


async def _read(
    events: Collection, token: str, most: int, until: float, kinds: Iterable[str] | None
) -> ChangeBacklog:
    after = position(token, await identity(events))
    with reachable():
        session = await events.database.client.start_session()
    try:
        return await _until_now(events, session, after, most, until, kinds)
    finally:
        with reachable():
            await session.end_session()


async def _until_now(
    events: Collection,
    session: Session,
    after: dict[str, Any],
    most: int,
    until: float,
    kinds: Iterable[str] | None,
) -> ChangeBacklog:
    reply = await opened(events, session, after, BATCH, kinds)
    # The bound is read once: a later one would move on as long as commands arrive.
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
            if not isinstance(event.get("created_at"), datetime):
                # An event that was edited by hand: the lag needs a time, so use the insert's.
                event["created_at"] = change["clusterTime"].as_datetime().replace(tzinfo=None)
            yield event


def _reached(cursor: Cursor, now: Timestamp) -> bool:
    """Whether the cursor has passed `now`: its last change is newer, or the batch is empty.

    A sharded MongoDB also sends an empty batch while one shard is slow. Then the token has the
    cluster time that the cursor reached, in the eight bytes after 0x82.
    """
    if batch := raw_batch_of(cursor):
        return bool(batch[-1]["clusterTime"] > now)
    token = token_of(cursor)["_data"]
    if isinstance(token, str) and token.startswith("82"):
        return Timestamp(int(token[2:10], 16), int(token[10:18], 16)) >= now
    return True
