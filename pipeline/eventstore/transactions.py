"""Appends several accounts' events in one transaction: all of them or none.

Requests that wait at the same time share a transaction, because a commit costs more than the
inserts in it. The others share the next one if an event of one request is refused. If the shared
transaction fails otherwise, each request continues in a transaction of its own.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, ConnectionFailure, PyMongoError

from pipeline.eventstore.errors import (
    StoreRefused,
    StoreUnavailable,
    StoreUnguarded,
    VersionConflict,
)
from pipeline.eventstore.guards import Guards
from pipeline.eventstore.write_results import (
    DEFINITE,
    DUPLICATE_KEY,
    Client,
    Collection,
    Refused,
    encode,
    refusal,
    refused_for_good,
    stored_ids,
)
from pipeline.model.events import Event
from pipeline.support.correlation import detached
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

GROUP: Final = 100
"""The most events in a shared transaction, unless one request has more."""

_CONTESTED: Final = 1.0
"""Seconds in which requests of an account share no transaction, after another process was first to
store an event of it."""
_SLOW: Final = 1.0
"""Seconds after which the next group starts although the one before has no outcome."""
_CONFLICTS: Final = 12
"""Write conflicts after which the caller has to decide again."""
_FIRST_PAUSE: Final = 0.01


@dataclass(slots=True, eq=False)
class Whole:
    """Events to store together or not at all, their encoded documents, and the future outcome.

    After `until`, by the loop's clock, nothing is retried. They were decided in the `epoch` of the
    guards.
    """

    events: Sequence[Event]
    documents: Sequence[RawBSONDocument]
    until: float
    outcome: asyncio.Future[None]
    epoch: int
    in_doubt: bool = False
    """An earlier try may have stored them: its reply was lost."""

    def end(self, error: Exception | None = None) -> None:
        if error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(error)
            # Marks the exception as retrieved: asyncio logs it otherwise if the caller has gone.
            self.outcome.exception()


class Transactions:
    """Runs transactions, each to its end even if its caller has gone."""

    def __init__(self, client: Client, events: Collection, guards: Guards, outage: Outage) -> None:
        self._client, self._events = client, events
        self._guards, self._outage = guards, outage
        self._waiting: deque[Whole] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._alone: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.Future[None]] = set()
        self._contested: dict[str, float] = {}
        """Until when requests of these accounts run alone: one that waits for others first would
        lose to the other process each time."""

    def start(self, events: Sequence[Event], seconds: float, epoch: int) -> asyncio.Future[None]:
        """Start one; its outcome raises the refusal, or `StoreUnavailable` after `seconds`."""
        loop = asyncio.get_running_loop()
        documents = [encode(event) for event in events]
        outcome: asyncio.Future[None] = loop.create_future()
        whole = Whole(events, documents, loop.time() + seconds, outcome, epoch)
        self._open.add(whole.outcome)
        whole.outcome.add_done_callback(self._open.discard)
        if any(loop.time() < self._contested.get(each["account_id"], 0) for each in events):
            self._begin(whole)
        else:
            self._waiting.append(whole)
            self._ensure_writer()
        return whole.outcome

    async def close(self, seconds: float) -> None:
        """Wait up to `seconds` for the transactions in flight."""
        if self._open:
            await asyncio.wait(self._open, timeout=seconds)

    def _ensure_writer(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = detached(self._write())

    async def _write(self) -> None:
        """Commit the waiting requests, one group at a time; the next gathers during a commit."""
        while self._waiting:
            task = detached(self._commit_group(self._next()))
            self._alone.add(task)
            task.add_done_callback(self._alone.discard)
            # A group on a connection that has died must not keep the next ones waiting for long.
            await asyncio.wait({task}, timeout=_SLOW)

    async def _commit_group(self, group: list[Whole]) -> None:
        try:
            await self._together(group)
        except Exception as error:
            for whole in group:
                whole.in_doubt = not _nothing_stored(error)
                self._begin(whole)

    def _next(self) -> list[Whole]:
        group = [self._waiting.popleft()]
        size = len(group[0].events)
        while self._waiting and size + len(self._waiting[0].events) <= GROUP:
            group.append(self._waiting.popleft())
            size += len(group[-1].events)
        return group

    async def _together(self, group: list[Whole]) -> None:
        """Try once for all. A refused event aborts it; the other requests share the next one."""
        await self._guards.require(min(whole.epoch for whole in group))
        places = [(whole, at) for whole in group for at in range(len(whole.events))]
        refused = await self._commit([whole.documents[at] for whole, at in places])
        self._outage.over()
        if refused is None:
            for whole in group:
                whole.end()
            return
        stopped, at = places[refused["index"]]
        # The others first: reading why this one was refused must not delay them.
        self._again([whole for whole in group if whole is not stopped])
        try:
            stopped.end(await self._meaning(stopped, refused, at))
        except PyMongoError:
            self._begin(stopped)

    def _again(self, group: Sequence[Whole]) -> None:
        """Have them share the next transaction. Each round leaves out one request, so it ends."""
        now = asyncio.get_running_loop().time()
        for whole in reversed(group):
            if now < whole.until:
                self._waiting.appendleft(whole)
            else:
                self._begin(whole)  # which ends it without a try
        self._ensure_writer()

    def _begin(self, whole: Whole) -> None:
        task = detached(self._go_on(whole))
        self._alone.add(task)
        task.add_done_callback(self._alone.discard)

    async def _go_on(self, whole: Whole) -> None:
        try:
            whole.end(await self._transact(whole))
        except (StoreRefused, StoreUnguarded) as error:
            # In doubt the caller must not believe that nothing is stored.
            whole.end(StoreUnavailable(str(error)) if whole.in_doubt else error)
        except Exception as error:
            whole.end(error)

    async def _transact(self, whole: Whole) -> Exception | None:
        """Try until the transaction is committed or refused, or until the time `until`."""
        events = whole.events
        clock = asyncio.get_running_loop().time
        failures = conflicts = 0
        while clock() < whole.until:
            committing = False
            try:
                await self._guards.require(whole.epoch)
                committing = True
                refused = await self._commit(whole.documents)
                self._outage.over()
                if refused is None:
                    return None
                return await self._meaning(whole, refused, refused["index"])
            except PyMongoError as error:
                if not _lost_a_race(error):
                    # The commit may have happened: the retry inserts the same ids again, and
                    # `_meaning` finds them stored.
                    whole.in_doubt |= committing
                    await self._outage.pause(error, failures)
                    failures += 1
                    continue
            conflicts += 1
            # In doubt the caller must not decide again: it would make new ids for the same command.
            if conflicts >= _CONFLICTS and not whole.in_doubt:
                self._contend(events)
                return VersionConflict(events[0]["account_id"], events[0]["version"])
            await asyncio.sleep(_FIRST_PAUSE * random.uniform(0, conflicts))
        return StoreUnavailable("MongoDB did not confirm a transaction in time")

    async def _commit(self, documents: Sequence[RawBSONDocument]) -> Refused | None:
        """Insert all and commit; return the write error that prevented it, if it is definite.

        Raises `StoreRefused` if the server refuses the whole for good.
        """
        inserted = False
        try:
            async with await self._client.start_session() as session, session.start_transaction():
                await self._events.insert_many(documents, session=session)
                inserted = True
        except BulkWriteError as error:
            for refused in error.details["writeErrors"]:
                if refused["code"] == DUPLICATE_KEY or refused["code"] in DEFINITE:
                    return dict(refused)
            raise
        except PyMongoError as error:
            # The driver repeats a commit whose answer was lost: the second may be refused although
            # the first has stored all.
            if not inserted and (whole := refused_for_good(error)) is not None:
                raise whole from error
            raise
        return None

    async def _meaning(self, whole: Whole, refused: Refused, at: int) -> Exception | None:
        """Why the event at the index `at` is refused; None if all events are stored already.

        An earlier try stored them if its reply was lost.
        """
        events = whole.events
        asked = whole.in_doubt or refused["code"] == DUPLICATE_KEY
        if asked and len(await stored_ids(self._events, events)) == len(events):
            return None
        reason = refusal(events[at], refused)
        if isinstance(reason, VersionConflict):
            self._contend(events[at : at + 1])
        return reason

    def _contend(self, events: Sequence[Event]) -> None:
        """Another process writes to their accounts, too."""
        now = asyncio.get_running_loop().time()
        current = {name: until for name, until in self._contested.items() if until > now}
        until = dict.fromkeys([event["account_id"] for event in events], now + _CONTESTED)
        self._contested = current | until


def _nothing_stored(error: Exception) -> bool:
    """Whether a transaction that failed with this error has certainly stored nothing."""
    if isinstance(error, PyMongoError):
        return _lost_a_race(error)
    return isinstance(error, StoreRefused | StoreUnguarded)


def _lost_a_race(error: PyMongoError) -> bool:
    """Whether the server aborted the transaction in favour of another: nothing of it is stored.

    The driver gives connection failures the same label, but they are an outage, not a lost race.
    """
    transient = error.has_error_label("TransientTransactionError")
    return transient and not isinstance(error, ConnectionFailure)
