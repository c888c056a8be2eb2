"""The event store as the rest of the bank sees it: append, load, replay, watch."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, cast

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ASCENDING, IndexModel

from pipeline.events import SLOTS, Event, slot_of
from pipeline.eventstore import appends, changes
from pipeline.eventstore.errors import reachable

_ORDER: Final = [("slot", ASCENDING), ("account_id", ASCENDING), ("version", ASCENDING)]
_KEY: Final = "idempotency_key"
_INDEXES: Final = [
    IndexModel(_ORDER, unique=True, name="account_version"),
    IndexModel(
        [(_KEY, ASCENDING)],
        unique=True,
        name=_KEY,
        partialFilterExpression={_KEY: {"$exists": True}},
    ),
]
_LIST: Final = 1000
_SLOTS_AT_ONCE: Final = 64
_LOADS_AT_ONCE: Final = 16


class EventStore:
    """The collection `events` of one database. Every method may raise `StoreUnavailable`."""

    def __init__(self, url: str, database: str) -> None:
        self._client: appends.Client = AsyncIOMotorClient(
            url,
            appname="bank",
            retryWrites=False,  # appends learn their outcome themselves
            w="majority",
            journal=True,
            serverSelectionTimeoutMS=2000,
            connectTimeoutMS=2000,
            socketTimeoutMS=10_000,
        )
        self._events = cast(appends.Collection, self._client[database]["events"])
        self._appender = appends.Appender(self._client, self._events)

    async def setup(self) -> None:
        """Make the collection and its two indexes unless they are there; any number at once."""
        with reachable():
            await self._events.create_indexes(_INDEXES)

    async def ping(self) -> None:
        with reachable():
            await self._client.admin.command("ping")

    async def close(self) -> None:
        """Let the appends under way end, then disconnect."""
        await self._appender.close()
        self._client.close()

    async def count(self) -> int:
        """The exact number of events, which takes a scan."""
        with reachable():
            return await self._events.count_documents({})

    async def append(self, *events: Event) -> None:
        """Store one event, or all of several or none, for good (majority write concern).

        `VersionConflict` and `KeyTaken` say that nothing was stored; after `StoreUnavailable`
        it may or may not have been, and the same event (with its `_id`) may be appended again.
        """
        if len(events) == 1:
            await self._appender.one(events[0])
        else:
            await self._appender.together(events)

    async def load(self, account_id: str, *, after: int = 0) -> list[Event]:
        """The events of an account above the version `after`, in version order."""
        query: dict[str, Any] = {"slot": slot_of(account_id), "account_id": account_id}
        if after:
            query["version"] = {"$gt": after}
        with reachable():
            return await self._events.find(query).sort(_ORDER).to_list(None)

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

    def replay(self, slots: Iterable[int]) -> AsyncIterator[list[Event]]:
        """All events of the slots in the order (slot, account_id, version), in lists.

        A list has about a thousand events; an account may go on in the next one. Memory is
        bounded, however many events there are: the next list is read while one is consumed.
        """
        return _one_ahead(self._lists(sorted(slots)))

    async def _lists(self, slots: list[int]) -> AsyncGenerator[list[Event], None]:
        with reachable():
            events_a_slot = await self._events.estimated_document_count() // SLOTS + 1
        held: list[Event] = []
        for run in _runs(slots, min(_SLOTS_AT_ONCE, 2 * _LIST // events_a_slot)):
            query = {"slot": {"$gte": run[0], "$lte": run[-1]}}
            cursor = self._events.find(query).sort(_ORDER).batch_size(_LIST)
            page: list[Event] | None = None
            while page is None or len(page) == _LIST:
                with reachable():
                    page = await cursor.to_list(_LIST)
                held += page
                if len(held) >= _LIST:
                    yield held
                    held = []
        if held:
            yield held

    def watch(
        self, token: str | None
    ) -> AbstractAsyncContextManager[AsyncIterator[changes.Changes]]:
        """Follow the inserts after a token, or from now on; see `changes.watch`."""
        return changes.watch(self._events, token)


def _runs(slots: list[int], longest: int) -> Iterator[list[int]]:
    """Slots that follow one another, so that one range of the index holds them.

    A few slots at a time: a query for each costs more than its answer, and a server that sorts
    a range in memory must not sort the whole store.
    """
    run: list[int] = []
    for slot in slots:
        if run and (slot != run[-1] + 1 or len(run) >= longest):
            yield run
            run = []
        run.append(slot)
    if run:
        yield run


async def _one_ahead(lists: AsyncGenerator[list[Event], None]) -> AsyncGenerator[list[Event], None]:
    """The same lists, each being read while the one before it is consumed."""

    async def following() -> list[Event] | None:
        return await anext(lists, None)

    ahead = asyncio.create_task(following())
    try:
        while (events := await ahead) is not None:
            ahead = asyncio.create_task(following())
            yield events
    finally:
        ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
        ahead.cancel()
        await asyncio.wait({ahead})
        await lists.aclose()
