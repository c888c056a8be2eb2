"""Rows of events of one account: stored from the first on, nothing after one that is refused."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import (
    AppendResult,
    EventStore,
    KeyTaken,
    StoreUnavailable,
    VersionConflict,
)
from pipeline.eventstore.append_queue import LEAST
from pipeline.model.events import SLOTS, Event, new_event
from pipeline.support.settings import Settings
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


def account(number: int) -> str:
    return f"{number:026d}"


def row(account_id: str, first: int, number: int) -> list[Event]:
    versions = range(first, first + number)
    return [
        new_event(account_id, v, DEPOSITED if v > 1 else CREATED, {"money": v}) for v in versions
    ]


async def versions(store: EventStore, account_id: str) -> list[int]:
    return [event["version"] for event in await store.load(account_id)]


async def test_a_row_is_stored_in_order(connect: Connect) -> None:
    store = await connect()
    events = row(account(1), 1, 50)
    assert await store.append_row(events) == AppendResult(50)
    assert await store.load(account(1)) == events
    assert await store.append_row([]) == AppendResult(0)


@pytest.mark.parametrize("at", [1, 4, 6])
async def test_nothing_comes_after_a_version_that_was_taken(connect: Connect, at: int) -> None:
    store = await connect()
    await store.append(*row(account(1), at, 1))
    number, error = await store.append_row(row(account(1), 1, 6))
    assert number == at - 1
    assert isinstance(error, VersionConflict)
    assert (error.account_id, error.version) == (account(1), at)
    assert await versions(store, account(1)) == list(range(1, at + 1))


@pytest.mark.parametrize("at", [0, 3, 5])
async def test_nothing_comes_after_a_key_that_was_taken(connect: Connect, at: int) -> None:
    store = await connect()
    (taken,) = row(account(2), 1, 1)
    taken["idempotency_key"] = "k"
    await store.append(taken)
    events = row(account(1), 1, 6)
    events[at]["idempotency_key"] = "k"
    number, error = await store.append_row(events)
    assert number == at
    assert isinstance(error, KeyTaken)
    assert await versions(store, account(1)) == list(range(1, at + 1))
    assert await store.under_keys(["k", "none"]) == {"k": taken}


@pytest.mark.parametrize("at", [0, 3])
async def test_nothing_comes_after_what_can_not_be_encoded(connect: Connect, at: int) -> None:
    store = await connect()
    events = row(account(1), 1, 6)
    events[at]["body"] = {"owner": "\ud800"}
    number, error = await store.append_row(events)
    assert number == at
    assert isinstance(error, UnicodeEncodeError)
    assert await versions(store, account(1)) == list(range(1, at + 1))


async def test_the_same_row_may_be_appended_again(connect: Connect) -> None:
    store = await connect()
    events = row(account(1), 1, 9)
    for known in (4, 4, 9, 9):
        assert await store.append_row(events[:known]) == AppendResult(known)
    assert await store.load(account(1)) == events


async def test_each_of_many_rows_has_its_own_outcome(connect: Connect) -> None:
    """Singles and rows that wait at the same time, every third with a conflict at its third event
    or, if it has but one, at that."""
    store = await connect()
    sizes = {account(n): 1 + n % 2 * 4 for n in range(60)}
    lost = [a for n, a in enumerate(sizes) if n % 3 == 0]
    for account_id in lost:
        await store.append(*row(account_id, 3 if sizes[account_id] > 1 else 1, 1))
    results = dict(
        zip(
            sizes,
            await asyncio.gather(*(store.append_row(row(a, 1, n)) for a, n in sizes.items())),
            strict=True,
        )
    )
    for account_id, (number, error) in results.items():
        size = sizes[account_id]
        stored = (2 if size > 1 else 0) if account_id in lost else size
        assert number == stored
        assert isinstance(error, VersionConflict if account_id in lost else type(None))
        assert await versions(store, account_id) == list(
            range(1, stored + 1 + (account_id in lost))
        )


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
