"""The event store's interface to the other packages: append, load, replay, watch."""

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
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from itertools import islice
from typing import Any, Final, cast

from pipeline.eventstore import (
    account_reader,
    changes,
    driver,
    duplicates,
    walk_all,
    write_results,
)
from pipeline.eventstore.appender import Appender
from pipeline.eventstore.change_backlog import ChangeBacklog, change_backlog
from pipeline.eventstore.correlated import correlated
from pipeline.eventstore.errors import StoreUnavailable, reachable
from pipeline.eventstore.grouped_reads import GroupedReads
from pipeline.eventstore.guards import Guards
from pipeline.eventstore.index_builder import IndexBuilder
from pipeline.eventstore.indexes import GUARDS, KEY, ORDER, name_of
from pipeline.eventstore.invalid_documents import InvalidDocuments, invalid_documents
from pipeline.eventstore.process_states import ProcessStates
from pipeline.eventstore.snapshots import Snapshots
from pipeline.eventstore.subject_keys import SubjectKeys
from pipeline.model.derived import before_upcast
from pipeline.model.events import Event, slot_of
from pipeline.model.personal import Subject
from pipeline.model.upcasters import upcast
from pipeline.support.access import ServerAccess
from pipeline.support.cancellation import close_all
from pipeline.support.tracing import carrying

_LIST: Final = 1000
_SLOTS_AT_ONCE: Final = 64
_LOADS_AT_ONCE: Final = 16
_SWITCH_SECONDS: Final = 0.0002
"""The interpreter's switch interval. A driver thread with work waits that long for a busy
event loop; with the default of 5 ms the server would idle meanwhile."""


async def _no_rest(seconds: float, events: int) -> None:
    return None


class EventStore:
    """The collection `events` of one database. Every method may raise `StoreUnavailable`.

    `load`, `load_many`, `walk`, `of_kinds` and `replay` return events in the newest schema of their
    kind and omit invalid documents; `page` and `after` omit them too. All of these but `after`, and
    `under_keys`, have events with their personal fields, or what stands in their place
    (`personal.py`). `after` returns events as stored; `watch`, `change_backlog` and `correlated`
    documents as stored, also invalid ones (`misplaced`).
    """

    def __init__(self, at: ServerAccess | str, database: str) -> None:
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_SECONDS))
        self._client: write_results.Client = driver.client(
            at,
            appname="bank",
            retryWrites=False,  # appends retry themselves, by the events' ids
            w="majority",
            journal=True,
            serverSelectionTimeoutMS=2000,
            connectTimeoutMS=2000,
            socketTimeoutMS=10_000,
            datetime_conversion="DATETIME_AUTO",  # reads a time after the year 9999
            unicode_decode_error_handler="replace",  # a bad text must not fail a whole batch
        )
        self._events = cast(write_results.Collection, self._client[database]["events"])
        self.guards = Guards(self._events)
        self._indexes = IndexBuilder(self._events, self.guards)
        self._appender = Appender(self._client, self._events, self.guards)
        self._slots_at_once = 1
        self.snapshots = Snapshots(self._client[database]["snapshots"])
        self.processes = ProcessStates(self._client[database]["processes"])
        self.keys = SubjectKeys(self._client[database]["subject_keys"])
        self._grouped = GroupedReads(self._snapshots_and_keys)

    async def setup(self, *, replace: bool = True) -> None:
        """Create the collection and its indexes if missing; safe from many processes at once.

        `replace`: also replace, in the background, what an earlier version has made. Raises
        `StoreUnguarded` if an index can't be built.
        """
        with reachable():
            await self._indexes.ensure(replace=replace)
        await self.guards.look()

    async def ping(self) -> None:
        """Raise unless the server takes writes. A direct connection (`directConnection=true`) reads
        from a secondary as well, where events may be missing, whatever the read preference is."""
        with reachable():
            hello = await self._client.admin.command("hello")
        if not hello.get("isWritablePrimary"):
            raise StoreUnavailable("this MongoDB is no primary")

    async def close(self) -> None:
        """Wait for the appends in flight, then disconnect."""
        try:
            await close_all(
                self._indexes.close, self._appender.close, self.snapshots.close, self.keys.close
            )
        finally:
            self._client.close()

    async def estimate(self) -> int:
        """The approximate number of events, from MongoDB's metadata."""
        with reachable():
            return await self._events.estimated_document_count()

    async def count(self, slots: range | None = None) -> int:
        """The exact number of events of some slots or of all; a scan."""
        query = {"slot": {"$gte": slots.start, "$lt": slots.stop}} if slots else {}
        with reachable():
            return await self._events.count_documents(query)

    async def invalid_documents(self) -> InvalidDocuments:
        """The documents in the collection that are no account's event; a scan."""
        return await invalid_documents(self._events)

    async def duplicates(self, index: str) -> list[str]:
        """Up to ten places or keys that more than one event has, each named with ids of those
        events; a scan, for while the unique index of that name is missing. Others have none."""
        found: list[str] = []
        with reachable():
            for guard in GUARDS:
                if name_of(guard) == index:
                    ids = await duplicates.find(self._events, guard)
                    found += await duplicates.named(self._events, guard, ids)
        return found

    async def append(self, *events: Event, epoch: int | None = None) -> None:
        """Store one event, or several together or not at all, durably (majority write concern).

        `epoch`: what `guards.epoch` was before the states were read on which they were decided.

        After `VersionConflict`, `KeyTaken`, `StoreRefused` and `StoreUnguarded` nothing is stored.
        After `StoreUnavailable` the events may be stored; the same events (with their `_id`) may be
        appended again.
        """
        with carrying("append", events):
            if len(events) == 1:
                await self._appender.one(events[0], epoch)
            else:
                await self._appender.together(events, epoch)

    async def append_row(
        self, events: Sequence[Event], epoch: int | None = None
    ) -> write_results.AppendResult:
        """Store consecutive events of one account, in order, up to the first that is refused.

        Returns the number that is stored and the refusal; does not raise it.
        """
        with carrying("append", events):
            return await self._appender.row(events, epoch)

    async def under_keys(self, keys: Sequence[str]) -> dict[str, Event]:
        """The durably stored events with these idempotency keys, by key."""
        with reachable():
            found = (
                await write_results.linearizable(self._events)
                .find({KEY: {"$in": keys}})
                .to_list(None)
            )
        events = await self.keys.readable([*map(upcast, found)])
        return {key: event for event in events for key in keys if _bears(event, key)}

    async def load(self, account_id: str, *, after: int = 0) -> list[Event]:
        """The events of an account above the version `after`, in version order."""
        return [*await self.keys.readable(await self._load(account_id, after))]

    async def _load(self, account_id: str, after: int = 0) -> list[Event]:
        query: dict[str, Any] = {"slot": slot_of(account_id), "account_id": account_id}
        if after:
            query["version"] = {"$gt": after}
        with reachable():
            return account_reader.readable(await self._events.find(query).sort(ORDER).to_list(None))

    async def snapshot_and_keys(
        self, account_id: str
    ) -> tuple[dict[str, Any] | None, Subject | None]:
        """The account's snapshot, not verified, and its subject's keys, by the same queries whether
        they are there or not. That keys are missing is not certain: see `walk`.

        What is asked for at the same time is read together.
        """
        return await self._grouped.get(account_id)

    async def _snapshots_and_keys(
        self, account_ids: Collection[str]
    ) -> dict[str, tuple[dict[str, Any] | None, Subject | None]]:
        snapshots, subjects = await asyncio.gather(
            self.snapshots.find_many(account_ids), self.keys.known(account_ids)
        )
        return {each: (snapshots.get(each), subjects.get(each)) for each in account_ids}

    async def readable(self, events: Sequence[Event]) -> Sequence[Event]:
        """Events that came another way, such as the stream, with their personal fields as readers
        have them."""
        return await self.keys.readable(events)

    async def walk(
        self,
        account_id: str,
        *,
        after: int = 0,
        to: int | None = None,
        keys: Mapping[str, Subject] | None = None,
    ) -> AsyncGenerator[list[Event], None]:
        """The events above `after`, up to `to`, in lists: for histories of any length. `keys`: as
        `readable` of `SubjectKeys` takes them."""
        async with aclosing(account_reader.walk(self._events, account_id, after, to)) as lists:
            async for events in lists:
                yield [*await self.keys.readable(events, keys)]

    async def page(self, account_id: str, *, after: int, limit: int) -> list[Event]:
        """Up to `limit` events of an account above the version `after`, in the schema in which they
        are stored."""
        found = await account_reader.page(self._events, account_id, after, limit)
        return [*map(before_upcast, await self.keys.readable(found))]

    async def of_kinds(
        self, account_id: str, kinds: Collection[str], *, after: int, limit: int
    ) -> list[Event]:
        """Up to `limit` events of an account of these kinds, above the version `after`; none that
        could be rolled back."""
        found = await account_reader.of_kinds(self._events, account_id, kinds, after, limit)
        return [*await self.keys.readable(found)]

    async def head(self, account_id: str) -> int:
        """The newest version of an account, 0 if there is none."""
        return await account_reader.head(self._events, account_id)

    async def load_many(self, account_ids: Collection[str]) -> dict[str, list[Event]]:
        """The events of each account; an account that does not exist has an empty list.

        It sends one query per account, `_LOADS_AT_ONCE` at a time: some servers answer one query
        for many accounts (`$or`, or `$in` on slot and account) with a scan of the collection.
        """
        todo = iter(dict.fromkeys(account_ids))
        loaded: dict[str, list[Event]] = {}

        async def work() -> None:
            for account_id in todo:
                loaded[account_id] = await self._load(account_id)

        await asyncio.gather(*(work() for _ in range(_LOADS_AT_ONCE)))
        all_of_them = [event for events in loaded.values() for event in events]
        readable = iter(await self.keys.readable(all_of_them))
        return {account: [*islice(readable, len(each))] for account, each in loaded.items()}

    def replay(
        self,
        slots: Iterable[int],
        begin: Callable[[int], None] = lambda _: None,
        rest: Callable[[float, int], Awaitable[None]] = _no_rest,
    ) -> AsyncIterator[list[Event]]:
        """All events of the slots in the order (slot, account_id, version), in lists.

        A list has about a thousand events; an account may continue in the next one. At most two
        lists are in memory: the next one is read while one is consumed. `begin` is called before
        a range of slots is read, with the first slot above the range. `rest` is awaited after each
        read, with its seconds and its number of events.
        """
        return _one_ahead(self._lists(sorted(slots), begin, rest))

    async def _lists(
        self,
        slots: list[int],
        begin: Callable[[int], None],
        rest: Callable[[float, int], Awaitable[None]],
    ) -> AsyncGenerator[list[Event], None]:
        pending: list[Event] = []
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
                pending += await self.keys.readable(account_reader.readable(page))
                if len(pending) >= _LIST:
                    yield pending
                    pending = []
            slots = slots[len(run) :]
            # Aim at two lists per query, by the density of the slots just read.
            fitting = 2 * _LIST * len(run) // max(1, read)
            self._slots_at_once = max(1, min(_SLOTS_AT_ONCE, fitting))
        if pending:
            yield pending

    async def after(
        self, place: walk_all.Place, limit: int
    ) -> tuple[list[Event], walk_all.Place | None]:
        """Up to `limit` events after the place, as they are stored, in the order (slot, account_id,
        version), and where to go on; see `walk_all.page`."""
        return await walk_all.page(self._events, place, limit)

    def watch(
        self, token: str | None, kinds: Iterable[str] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[changes.Changes]]:
        """Follow the inserts after a token, or from now on; see `changes.watch`."""
        return changes.watch(self._events, token, kinds)

    async def correlated(
        self, correlation_id: str, since: datetime, until: datetime, *, seconds: float
    ) -> list[Event]:
        """The events of a correlation id from that time; see `correlated.correlated`."""
        return await correlated(self._events, correlation_id, since, until, seconds)

    async def change_backlog(
        self, token: str, *, most: int, seconds: float, kinds: Iterable[str] | None = None
    ) -> ChangeBacklog:
        """The events that a watch from the token has yet to read; see `change_backlog`."""
        return await change_backlog(self._events, token, most=most, seconds=seconds, kinds=kinds)


def _bears(event: Event, key: str) -> bool:
    """Whether the event has the key. MongoDB indexes each element of a list as a key of its own."""
    there: object = event[KEY]
    return there == key or (isinstance(there, list) and key in there)


def _run(slots: list[int], longest: int) -> list[int]:
    """The longest prefix of consecutive slots, at most `longest`: one range of the index.

    A query per slot costs more than its result; a range of all slots would make a server that
    sorts in memory sort the whole store.
    """
    run = slots[:longest]
    return [slot for at, slot in enumerate(run) if slot == run[0] + at]


async def _one_ahead(lists: AsyncGenerator[list[Event], None]) -> AsyncGenerator[list[Event], None]:
    """The same lists; each is read while the one before it is consumed."""

    async def following() -> list[Event] | None:
        return await anext(lists, None)

    ahead = asyncio.create_task(following())
    try:
        while (events := await ahead) is not None:
            ahead = asyncio.create_task(following())
            await asyncio.sleep(0)  # lets the task send its request before the consumer runs
            yield events
    finally:
        # The read must end before the generator is closed: closing a running one raises.
        ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
        ahead.cancel()
        await asyncio.wait({ahead})
        await lists.aclose()
