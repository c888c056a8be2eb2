"""Group commit: rows of events that wait at the same time go down together.

A row has events of one account that follow one another. They are stored from the first on: after
one that is refused nothing of its row is, for it was decided on what never came to be.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, PyMongoError

from pipeline.eventstore.errors import StoreUnavailable
from pipeline.eventstore.write_results import (
    WRITE_CONFLICT,
    AppendResult,
    Collection,
    Refused,
    ours,
    refusal,
    refusals,
)
from pipeline.model.events import Event
from pipeline.support.correlation import detached
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

GROUP: Final = 500
"""Events that go down together, unless one row is longer."""

_PAUSE: Final = 0.01


@dataclass(slots=True, eq=False)
class AppendRow:
    """Events on their way, the `documents` that they are, and whoever waits for their outcome."""

    events: Sequence[Event]
    documents: Sequence[RawBSONDocument]
    outcome: asyncio.Future[AppendResult]
    stored: int = 0

    @property
    def left(self) -> int:
        return len(self.events) - self.stored

    def advance(self, number: int) -> None:
        """So many more are stored."""
        self.stored += number
        if not self.left:
            self.end()

    def end(self, error: Exception | None = None) -> None:
        if not self.outcome.done():  # else its caller was cancelled or ran out of time
            self.outcome.set_result(AppendResult(self.stored, error))


class AppendQueue:
    """Writes rows into the collection `events`, a group at a time."""

    def __init__(self, events: Collection, outage: Outage) -> None:
        self._events, self._outage = events, outage
        self._waiting: deque[AppendRow] = deque()
        self._writer: asyncio.Task[None] | None = None

    def add(self, row: AppendRow) -> None:
        """Have it written with all others that wait at this moment."""
        self._waiting.append(row)
        if self._writer is None or self._writer.done():
            self._writer = detached(self._write())

    async def close(self, seconds: float) -> None:
        """Wait for those under way."""
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=seconds)

    async def _write(self) -> None:
        """Insert what waits, a group at a time; the next gathers while one is under way."""
        while self._waiting:
            group = self._next()
            try:
                await self._write_group(group)
            except Exception as error:
                log.exception("A group of %d rows could not be written", len(group))
                for row in group:
                    row.end(StoreUnavailable(repr(error)))

    def _next(self) -> list[AppendRow]:
        group = [self._waiting.popleft()]
        size = group[0].left
        while self._waiting and size + self._waiting[0].left <= GROUP:
            group.append(self._waiting.popleft())
            size += group[-1].left
        return group

    async def _write_group(self, group: list[AppendRow]) -> None:
        """Insert until every row has an outcome, or no one waits for it any longer."""
        attempt = 0
        while live := [row for row in group if not row.outcome.done()]:
            try:
                decided = await self._insert_group(live, first=not attempt)
            except PyMongoError as error:
                await self._outage.pause(error, attempt)
            else:
                self._outage.over()
                if not decided:
                    await asyncio.sleep(_PAUSE)
            attempt += 1

    async def _insert_group(self, rows: list[AppendRow], *, first: bool) -> bool:
        """Whether no event lost a race. One command at first, for it is seldom that any event is
        refused; what is left then goes down as single events and longer rows at the same time."""
        singles, longer = [r for r in rows if r.left == 1], [r for r in rows if r.left > 1]
        if first and longer:
            return await self._insert_rows(rows)
        results = await asyncio.gather(
            self._insert_singles(singles),
            self._insert_rows(longer),
            return_exceptions=True,  # both to their end, before anything is tried again
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return all(results)

    async def _insert_singles(self, rows: list[AppendRow]) -> bool:
        """What is refused is in nobody else's way."""
        refused = await self._insert([row.documents[-1] for row in rows], ordered=False)
        stored = await ours(self._events, [rows[at].events[-1] for at in refused])
        settled = [_settle(row, refused.get(at), stored) for at, row in enumerate(rows)]
        return all(settled)

    async def _insert_rows(self, rows: list[AppendRow]) -> bool:
        """One after another, up to the first event that is refused: the rest is tried again."""
        documents = [document for row in rows for document in row.documents[row.stored :]]
        refused = await self._insert(documents, ordered=True)
        at = left = min(refused, default=len(documents))
        for row in rows:
            stored = min(left, row.left)
            row.advance(stored)
            left -= stored
            if row.left:
                known = await ours(self._events, row.events[row.stored :])
                return _settle(row, refused[at], known)
        return True

    async def _insert(
        self, documents: Sequence[RawBSONDocument], *, ordered: bool
    ) -> dict[int, Refused]:
        """Insert; return the errors of the refused ones by their index."""
        if not documents:
            return {}
        try:
            await self._events.insert_many(documents, ordered=ordered)
        except BulkWriteError as error:
            return refusals(error)
        return {}


def _settle(row: AppendRow, refused: Refused | None, stored: set[str]) -> bool:
    """Take note of what became of a row's next event; False if it lost a race and must be tried
    again. `stored`: those of the row that are stored by an earlier try whose answer was lost."""
    if refused is None:
        row.advance(1)
    elif known := sum(event["_id"] in stored for event in row.events[row.stored :]):
        row.advance(known)
    elif refused["code"] == WRITE_CONFLICT:
        return False
    else:
        row.end(refusal(row.events[row.stored], refused))
    return True
