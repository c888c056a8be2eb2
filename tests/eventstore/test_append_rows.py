"""Rows of events of one account: stored from the first on, nothing after one that is refused."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import (
    EventStore,
    StoreUnavailable,
    VersionConflict,
)
from pipeline.eventstore.append_queue import LEAST
from pipeline.model.events import SLOTS, Event
from pipeline.support.settings import Settings
from tests.eventstore.made import account, row
from tests.harness import eventually, rounds
from tests.proxy import TcpProxy


@pytest.fixture
async def connect(settings: Settings) -> AsyncIterator[Callable[..., Awaitable[EventStore]]]:
    """`await connect(url)`: a store that is closed afterwards."""
    made: list[EventStore] = []

    async def make(url: str = settings.mongodb_url) -> EventStore:
        made.append(EventStore(url, settings.mongodb_database))
        await made[-1].setup()
        return made[-1]

    yield make
    for store in made:
        await store.close()


Connect = Callable[..., Awaitable[EventStore]]


async def test_racing_rows_never_mix(connect: Connect) -> None:
    """Two stores append rows to one account, with transactions between; each row is a whole."""
    stores = [await connect(), await connect()]
    await stores[0].append(*row(account(1), 1, 1))
    kept: list[list[str]] = []

    async def writer(store: EventStore, seed: int) -> None:
        chance = random.Random(seed)
        for number in range(rounds(12, 100)):
            done = False
            while not done:
                head = await store.head(account(1))
                events = row(account(1), head + 1, chance.randint(1, 6))
                if number % 4 == 0:
                    other = account(1000 * seed + number)
                    try:
                        await store.append(events[0], *row(other, 1, 1))
                        kept.append([events[0]["_id"]])
                        done = True
                    except VersionConflict:
                        continue
                else:
                    stored, error = await store.append_row(events)
                    assert isinstance(error, VersionConflict | None)
                    kept.append([event["_id"] for event in events[:stored]])
                    done = stored > 0

    await asyncio.gather(*(writer(stores[n % 2], n + 1) for n in range(4)))
    events = await stores[0].load(account(1))
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    ids = [event["_id"] for event in events]
    assert sum(map(len, kept)) == len(ids) - 1
    for mine in kept:
        if mine:
            start = ids.index(mine[0])
            assert ids[start : start + len(mine)] == mine


class Writer:
    """Appends row after row to an account of its own, each until its outcome is known."""

    def __init__(self, store: EventStore, number: int) -> None:
        self.store, self.account = store, account(number)
        self.events: list[Event] = []
        self._chance = random.Random(number)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            events = row(self.account, len(self.events) + 1, self._chance.randint(1, 8))
            while (result := await self.store.append_row(events)).error is not None:
                assert isinstance(result.error, StoreUnavailable), result
            self.events += events


async def run_through(store: EventStore, trouble: Callable[[], Awaitable[None]]) -> None:
    """Writers go on while there is trouble, so many that two inserts are in flight; in the end each
    has exactly what it wrote."""
    writers, stop = [Writer(store, n) for n in range(3 * LEAST)], asyncio.Event()
    tasks = [asyncio.create_task(writer.run(stop)) for writer in writers]

    def written() -> int:
        return sum(len(writer.events) for writer in writers)

    for _ in range(rounds(2, 12)):
        target = written() + 150
        await eventually(lambda target=target: written() >= target, seconds=60)  # type: ignore[misc]
        await trouble()
    target = written() + 150
    await eventually(lambda: written() >= target, seconds=60)
    stop.set()
    await asyncio.gather(*tasks)
    found = [event async for events in store.replay(range(SLOTS)) for event in events]
    by_account = itertools.groupby(found, key=lambda event: event["account_id"])
    assert {a: list(events) for a, events in by_account} == {w.account: w.events for w in writers}


async def test_lost_answers_double_nothing_and_leave_no_hole(
    connect: Connect, settings: Settings
) -> None:
    async with TcpProxy(settings.mongodb_url) as way:
        store = await connect(way.url)

        async def cut() -> None:
            await way.cut()
            await way.mend()

        await run_through(store, cut)


async def test_a_killed_server_doubles_nothing_and_leaves_no_hole(
    own_servers: EmbeddedServers, connect: Connect
) -> None:
    server = own_servers.servers["mongodb"]
    store = await connect(server.url)

    async def kill() -> None:
        await server.kill()
        await server.start()

    await run_through(store, kill)
