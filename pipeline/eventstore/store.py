"""The event store as the rest of the bank sees it: append, load, replay, watch."""

import asyncio
import sys
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, cast

from pipeline.eventstore import account_reader, changes, driver, write_results
from pipeline.eventstore.appender import Appender
from pipeline.eventstore.change_backlog import ChangeBacklog, change_backlog
from pipeline.eventstore.correlated import correlated
from pipeline.eventstore.errors import reachable
from pipeline.eventstore.indexes import KEY, ORDER, Indexes
from pipeline.eventstore.invalid_documents import InvalidDocuments, invalid_documents
from pipeline.eventstore.snapshots import Snapshots
from pipeline.model.events import Event, slot_of
from pipeline.model.upcasters import upcast
from pipeline.support.access import ServerAccess
from pipeline.support.tracing import carrying

_LIST: Final = 1000
_SLOTS_AT_ONCE: Final = 64
_LOADS_AT_ONCE: Final = 16
_SWITCH_SECONDS: Final = 0.0002
"""How long a thread of the driver waits for a busy event loop, each time that it has something to
do: for the usual 5 ms the server would have nothing to do meanwhile."""


async def _no_rest(seconds: float, events: int) -> None:
    return None


class EventStore:
    """The collection `events` of one database. Every method may raise `StoreUnavailable`.

    What is loaded or replayed comes in the newest form of its kind, what is watched as stored.
    Only what is watched may be `misplaced`.
    """

    def __init__(self, at: ServerAccess | str, database: str) -> None:
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_SECONDS))
        self._client: write_results.Client = driver.client(
            at,
            appname="bank",
            retryWrites=False,  # appends learn their outcome themselves
            w="majority",
            journal=True,
            serverSelectionTimeoutMS=2000,
            connectTimeoutMS=2000,
            socketTimeoutMS=10_000,
            datetime_conversion="DATETIME_AUTO",  # a time beyond the year 9999 is read as it is
            unicode_decode_error_handler="replace",  # so one text can hide no others
        )
        self._events = cast(write_results.Collection, self._client[database]["events"])
        self._indexes = Indexes(self._events)
        self._appender = Appender(self._client, self._events)
        self._slots_at_once = 1
        self.snapshots = Snapshots(self._client[database]["snapshots"])

    async def setup(self) -> None:
        """Make the collection and its two indexes unless they are there; any number at once."""
        with reachable():
            await self._indexes.ensure()

    async def ping(self) -> None:
        with reachable():
            await self._client.admin.command("ping")

    async def close(self) -> None:
        """Let the appends under way end, then disconnect."""
        await self._indexes.close()
        await self._appender.close()
        await self.snapshots.close()
        self._client.close()

    async def estimate(self) -> int:
        """About how many events there are, which costs nothing."""
        with reachable():
            return await self._events.estimated_document_count()

    async def count(self, slots: range | None = None) -> int:
        """The exact number of events, of some slots or of all, which takes a scan."""
        query = {"slot": {"$gte": slots.start, "$lt": slots.stop}} if slots else {}
        with reachable():
            return await self._events.count_documents(query)

    async def strays(self) -> InvalidDocuments:
        """What is in the collection and is no account's event, which takes a scan."""
        return await invalid_documents(self._events)

    async def append(self, *events: Event) -> None:
        """Store one event, or all of several or none, for good (majority write concern).

        `VersionConflict` and `KeyTaken` say that nothing was stored; after `StoreUnavailable`
        it may or may not have been, and the same event (with its `_id`) may be appended again.
        """
        with carrying("append", events):
            if len(events) == 1:
                await self._appender.one(events[0])
            else:
                await self._appender.together(events)

    async def append_row(self, events: Sequence[Event]) -> write_results.AppendResult:
        """Store events of one account that follow one another: the first ones, up to one that is
        refused, and nothing after that. The refusal is told beside their number, not raised."""
        with carrying("append", events):
            return await self._appender.row(events)

    async def under_keys(self, keys: Sequence[str]) -> dict[str, Event]:
        """The events that bear these idempotency keys, as far as they are stored for good."""
        with reachable():
            found = (
                await write_results.proven(self._events).find({KEY: {"$in": keys}}).to_list(None)
            )
        return {key: upcast(event) for event in found for key in keys if _bears(event, key)}

    async def load(self, account_id: str, *, after: int = 0) -> list[Event]:
        """The events of an account above the version `after`, in version order."""
        query: dict[str, Any] = {"slot": slot_of(account_id), "account_id": account_id}
        if after:
            query["version"] = {"$gt": after}
        with reachable():
            return account_reader.readable(await self._events.find(query).sort(ORDER).to_list(None))

    def walk(
        self, account_id: str, *, after: int = 0, to: int | None = None
    ) -> AsyncGenerator[list[Event], None]:
        """The same, up to the version `to`, in lists: for histories of any length."""
        return account_reader.walk(self._events, account_id, after, to)

    async def page(self, account_id: str, *, after: int, limit: int) -> list[Event]:
        """Up to `limit` events of an account above the version `after`, as they are stored."""
        return await account_reader.page(self._events, account_id, after, limit)

    async def head(self, account_id: str) -> int:
        """The newest version of an account, 0 if there is none."""
        return await account_reader.head(self._events, account_id)

    async def load_many(self, account_ids: Collection[str]) -> dict[str, list[Event]]:
        """The events of each account; an account that does not exist has an empty list.

        A query for each account, some at once: one query for many (`$or`, or `$in` on slot and
        account) is a scan of the collection for some servers, and never the faster on those.
        """
        todo = iter(dict.fromkeys(account_ids))
        loaded: dict[str, list[Event]] = {}

        async def work() -> None:
            for account_id in todo:
                loaded[account_id] = await self.load(account_id)

        await asyncio.gather(*(work() for _ in range(_LOADS_AT_ONCE)))
        return loaded

    def replay(
        self,
        slots: Iterable[int],
        begin: Callable[[int], None] = lambda _: None,
        rest: Callable[[float, int], Awaitable[None]] = _no_rest,
    ) -> AsyncIterator[list[Event]]:
        """All events of the slots in the order (slot, account_id, version), in lists.

        A list has about a thousand events; an account may go on in the next one. Memory is
        bounded, however many events there are: the next list is read while one is consumed.
        `begin` is told before slots are read: below which one all are, by then. `rest` is awaited
        after each read, with the seconds that it took and the events that it brought.
        """
        return _one_ahead(self._lists(sorted(slots), begin, rest))

    async def _lists(
        self,
        slots: list[int],
        begin: Callable[[int], None],
        rest: Callable[[float, int], Awaitable[None]],
    ) -> AsyncGenerator[list[Event], None]:
        held: list[Event] = []
        while slots:
            run, read = _run(slots, self._slots_at_once), 0
            begin(run[-1] + 1)
            query = {"slot": {"$gte": run[0], "$lte": run[-1]}}
            cursor = self._events.find(query).sort(ORDER).batch_size(_LIST)
            page: list[Event] | None = None
            while page is None or len(page) == _LIST:
                began = time.monotonic()
                with reachable():
                    page = await cursor.to_list(_LIST)
                await rest(time.monotonic() - began, len(page))
                read += len(page)
                held += account_reader.readable(page)
                if len(held) >= _LIST:
                    yield held
                    held = []
            slots = slots[len(run) :]
            fitting = 2 * _LIST * len(run) // max(1, read)
            self._slots_at_once = max(1, min(_SLOTS_AT_ONCE, fitting))
        if held:
            yield held

    def watch(
        self, token: str | None
    ) -> AbstractAsyncContextManager[AsyncIterator[changes.Changes]]:
        """Follow the inserts after a token, or from now on; see `changes.watch`."""
        return changes.watch(self._events, token)

    async def correlated(
        self, correlation_id: str, since: datetime, until: datetime, *, seconds: float
    ) -> list[Event]:
        """The events of a correlation id that were made in that time; see `correlated`."""
        return await correlated(self._events, correlation_id, since, until, seconds)

    async def unread(self, token: str, *, most: int, seconds: float) -> ChangeBacklog:
        """What one who watches from the token has yet to read; see `unread`."""
        return await change_backlog(self._events, token, most=most, seconds=seconds)


def _bears(event: Event, key: str) -> bool:
    """MongoDB finds a list by what is in it, and its unique index goes by that too."""
    there: object = event[KEY]
    return there == key or (isinstance(there, list) and key in there)


def _run(slots: list[int], longest: int) -> list[int]:
    """The first slots as far as they follow one another, so that one range of the index holds them.

    A few at a time: a query for each costs more than its answer, and a server that sorts a range in
    memory must not sort the whole store.
    """
    run = slots[:longest]
    return [slot for at, slot in enumerate(run) if slot == run[0] + at]


async def _one_ahead(lists: AsyncGenerator[list[Event], None]) -> AsyncGenerator[list[Event], None]:
    """The same lists, each being read while the one before it is consumed."""

    async def following() -> list[Event] | None:
        return await anext(lists, None)

    ahead = asyncio.create_task(following())
    try:
        while (events := await ahead) is not None:
            ahead = asyncio.create_task(following())
            await asyncio.sleep(0)  # let it set out before the consumer works on this list
            yield events
    finally:
        ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
        ahead.cancel()
        await asyncio.wait({ahead})
        await lists.aclose()
