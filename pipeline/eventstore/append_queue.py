"""Group commit: one insert stores the rows of events that wait at the same time.

A row has consecutive events of one account. The queue stores them in order and stops at the first
that MongoDB refuses: each later event was decided on a state that includes the refused one.

Up to `MOST` inserts are in flight, of different accounts. Clients that wait for one insert decide
their next commands together, and MongoDB would be idle meanwhile; with two inserts it stores the
rows of some while others decide.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, PyMongoError

from pipeline.eventstore.errors import StoreRefused, StoreUnavailable, StoreUnguarded
from pipeline.eventstore.guards import Guards
from pipeline.eventstore.write_results import (
    WRITE_CONFLICT,
    AppendResult,
    Collection,
    Refused,
    refusal,
    refusals,
    refused_for_good,
    stored_ids,
)
from pipeline.model.events import Event
from pipeline.support.correlation import detached
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

GROUP: Final = 500
"""The most events in one insert, unless one row is longer."""
MOST: Final = 2
"""Inserts in flight at most."""
LEAST: Final = 32
"""Rows that an insert must have to begin beside another one: fewer cost more than they gain. An
insert costs this process some 400 µs whatever is in it, and 2 µs for each document."""

_PAUSE: Final = 0.01
"""Seconds until a retry after a write conflict: the transaction that caused it is still open."""
_IN_DOUBT: Final = "an earlier try may have stored it"


@dataclass(slots=True, eq=False)
class AppendRow:
    """Events to store, their encoded `documents`, and the future that their caller awaits.

    They were decided in the `epoch` of the guards.
    """

    events: Sequence[Event]
    documents: Sequence[RawBSONDocument]
    outcome: asyncio.Future[AppendResult]
    epoch: int
    stored: int = 0

    @property
    def account_id(self) -> str:
        return self.events[0]["account_id"]

    @property
    def left(self) -> int:
        return len(self.events) - self.stored

    def advance(self, number: int) -> None:
        """Count `number` more events as stored."""
        self.stored += number
        if not self.left:
            self.end()

    def end(self, error: Exception | None = None) -> None:
        if not self.outcome.done():  # done: the caller was cancelled or timed out
            self.outcome.set_result(AppendResult(self.stored, error))


class AppendQueue:
    """Writes rows into the collection `events`, a group at a time."""

    def __init__(self, events: Collection, guards: Guards, outage: Outage) -> None:
        self._events, self._guards, self._outage = events, guards, outage
        self._waiting: deque[AppendRow] = deque()
        self._writers: list[asyncio.Task[None]] = []
        self._in_flight: set[str] = set()  # the accounts of the rows that are being inserted

    def add(self, row: AppendRow) -> None:
        """Queue a row; it is written together with the other rows that wait."""
        self._waiting.append(row)
        self._begin()

    def _begin(self) -> None:
        """Begin an insert if none is in flight, or beside one if enough rows wait."""
        if not self._running() or (len(self._writers) < MOST and len(self._waiting) >= LEAST):
            self._writers.append(detached(self._write()))

    async def close(self, seconds: float) -> None:
        """Wait up to `seconds` until the queue is written."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while running := self._running():  # one may begin another
                    await asyncio.wait(running)

    def _running(self) -> list[asyncio.Task[None]]:
        self._writers = [writer for writer in self._writers if not writer.done()]
        return self._writers

    async def _write(self) -> None:
        """Insert waiting rows, one group at a time; the next group gathers during an insert."""
        while group := self._next():
            self._begin()  # for what the group leaves
            accounts = {row.account_id for row in group}
            self._in_flight |= accounts
            try:
                await self._write_group(group)
            except Exception as error:
                log.exception("A group of %d rows could not be written", len(group))
                for row in group:
                    row.end(StoreUnavailable(repr(error)))
            finally:
                self._in_flight -= accounts

    def _next(self) -> list[AppendRow]:
        """Take the rows of the next insert, none if they had better wait.

        A row waits for those before it of its account: an event must not overtake another.
        """
        ready = [row for row in self._waiting if row.account_id not in self._in_flight]
        if self._in_flight and len(ready) < LEAST:
            return []
        if (rows := len(ready) + len(self._in_flight)) >= 2 * LEAST:
            ready = ready[: -(-rows // MOST)]  # the rest is for another insert, beside this one
        sizes = accumulate(row.left for row in ready)
        group = [row for row, size in zip(ready, sizes, strict=True) if size <= GROUP] or ready[:1]
        taken = set(group)
        self._waiting = deque(row for row in self._waiting if row not in taken)
        return group

    async def _write_group(self, group: list[AppendRow], *, apart: bool = False) -> None:
        """Insert until every row has an outcome or its caller has stopped waiting.

        `apart`: the group is one row, of which each event gets a command of its own.
        """
        attempt, in_doubt = 0, False
        while live := [row for row in group if not row.outcome.done()]:
            inserting = False
            try:
                await self._guards.require(min(row.epoch for row in live))
                inserting = True
                if apart:
                    decided = await self._insert_rows(live, most=1)
                else:
                    decided = await self._insert_group(live, first=not attempt)
            except (StoreRefused, StoreUnguarded) as error:
                if _is_of_one(error, live) and not in_doubt and not apart:
                    await asyncio.gather(*(self._write_group([row], apart=True) for row in live))
                    return
                for row in live:
                    row.end(StoreUnavailable(f"{_IN_DOUBT}: {error}") if in_doubt else error)
            except PyMongoError as error:
                in_doubt |= inserting
                await self._outage.pause(error, attempt)
            else:
                self._outage.over()
                if not decided:
                    await asyncio.sleep(_PAUSE)
            attempt += 1

    async def _insert_group(self, rows: list[AppendRow], *, first: bool) -> bool:
        """Insert once; False if an event met a write conflict and the group needs another try.

        The first try is one command, because refusals are rare. Later tries insert single events
        and longer rows in two commands at the same time.
        """
        singles, longer = [r for r in rows if r.left == 1], [r for r in rows if r.left > 1]
        if not longer:
            return await self._insert_singles(singles)
        if first or not singles:
            return await self._insert_rows(rows)
        results = await asyncio.gather(
            self._insert_singles(singles),
            self._insert_rows(longer),
            # Both must end before a retry, or two inserts of the same event could overlap.
            return_exceptions=True,
        )
        if errors := [each for each in results if isinstance(each, BaseException)]:
            # An error that leaves its own rows in doubt counts before a refusal of the others.
            raise min(errors, key=lambda error: isinstance(error, StoreRefused))
        return all(results)

    async def _insert_singles(self, rows: list[AppendRow]) -> bool:
        """Insert rows of one event; unordered, so that a refusal does not stop other accounts."""
        refused = await self._insert([row.documents[-1] for row in rows], ordered=False)
        stored = await stored_ids(self._events, [rows[at].events[-1] for at in refused])
        settled = [_settle(row, refused.get(at), stored) for at, row in enumerate(rows)]
        return all(settled)

    async def _insert_rows(self, rows: list[AppendRow], most: int | None = None) -> bool:
        """Insert in order up to the first refused event; the next try continues after it.

        At most `most` events, if that is given.

        Ordered, because an event must never be stored without its predecessor.
        """
        documents = [document for row in rows for document in row.documents[row.stored :]][:most]
        refused = await self._insert(documents, ordered=True)
        at = left = min(refused, default=len(documents))
        for row in rows:
            stored = min(left, row.left)
            row.advance(stored)
            left -= stored
            if row.left and refused:
                known = await stored_ids(self._events, row.events[row.stored :])
                return _settle(row, refused[at], known)
        return True

    async def _insert(
        self, documents: Sequence[RawBSONDocument], *, ordered: bool
    ) -> dict[int, Refused]:
        """Insert the documents; return the errors of the refused ones by their index."""
        if not documents:
            return {}
        try:
            await self._events.insert_many(documents, ordered=ordered)
        except BulkWriteError as error:
            return refusals(error)
        except PyMongoError as error:
            if (refused := refused_for_good(error)) is not None:
                raise refused from error
            raise
        return {}


def _is_of_one(error: StoreRefused | StoreUnguarded, rows: list[AppendRow]) -> bool:
    """Whether one of several documents has made the server refuse the command with all of them."""
    definite = isinstance(error, StoreRefused) and not error.whole
    return definite and sum(row.left for row in rows) > 1


def _settle(row: AppendRow, refused: Refused | None, stored: set[str]) -> bool:
    """Record the outcome of a row's next event; False after a write conflict, which needs a retry.

    `stored`: ids of the row's events that an earlier try stored although its reply was lost.
    """
    if refused is None:
        row.advance(1)
    elif known := sum(event["_id"] in stored for event in row.events[row.stored :]):
        row.advance(known)
    elif refused["code"] == WRITE_CONFLICT:
        return False
    else:
        row.end(refusal(row.events[row.stored], refused))
    return True
