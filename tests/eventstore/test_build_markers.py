"""A builder of a guard or its server dies in the midst: a part of an index is never trusted.

The embedded server keeps such a part and lists it like a whole index.
"""

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pymongo
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from pipeline.banking.account import ACCOUNT
from pipeline.banking.events import CREATED
from pipeline.commands.service import CommandService
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import (
    EventStore,
    KeyTaken,
    StoreUnavailable,
    StoreUnguarded,
    VersionConflict,
    build_markers,
)
from pipeline.eventstore.build_markers import BuildMarkers
from pipeline.eventstore.guards import FRESH, indexes_of
from pipeline.eventstore.index_builder import IndexBuilder
from pipeline.eventstore.indexes import (
    KEYS,
    VERSIONS,
    Index,
    faults,
    markers_of,
    name_of,
    parts,
)
from pipeline.model.events import Event, new_event
from pipeline.support.settings import Settings
from tests.conftest import placed
from tests.harness import LONG_LANE, eventually
from tests.torture.checker.stores import unique_keys

Events = Collection[dict[str, Any]]

STORED = 2500
"""The embedded server takes a second or more to index them."""
BUILDER = """
import asyncio, os, signal, sys
from pipeline.eventstore import EventStore
from pipeline.eventstore.build_markers import BuildMarkers

class Telling(BuildMarkers):
    async def announce(self, guard, abandoned):
        marker = await super().announce(guard, abandoned)
        print("marked", flush=True)
        return marker

    async def remove(self, marker):
        os.kill(os.getpid(), signal.SIGKILL)

store = EventStore(*sys.argv[1:])
store._indexes._markers = Telling(store._events)
asyncio.run(store.setup())
"""
"""Says when its marker is there, and dies when the server has confirmed the build."""
GUARDS = pytest.mark.parametrize("guard", [VERSIONS, KEYS], ids=name_of)


def opened(number: int, key: str) -> Event:
    event = new_event(f"{number:026d}", 1, CREATED, {"owner": "A", "money": 5})
    event["idempotency_key"] = key
    return event


def marked(events: Events) -> list[str]:
    return [each for each in events.database.list_collection_names() if each != "events"]


async def built(store: EventStore) -> None:
    """As an account service does: again and again."""

    async def once() -> bool:
        with suppress(StoreUnguarded, StoreUnavailable):
            await store.setup()
            return True
        await asyncio.sleep(0.2)
        return False

    await eventually(once, seconds=120)


@asynccontextmanager
async def own_mongodb(scratch: Path, guard: Any) -> AsyncIterator[tuple[EmbeddedServers, Events]]:
    """A server with many events and without the guard."""
    settings = placed(scratch)
    servers = EmbeddedServers(settings, ["mongodb"])
    await servers.start()
    client = MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False)
    try:
        events = client[settings.mongodb_database]["events"]
        await built(store := EventStore(settings.mongodb_url, settings.mongodb_database))
        await store.close()
        await asyncio.to_thread(events.drop_index, name_of(guard))
        stored = [dict(opened(n, f"k{n}")) for n in range(STORED)]
        await asyncio.to_thread(events.insert_many, stored)
        yield servers, events
    finally:
        client.close()
        await servers.stop()


async def building(servers: EmbeddedServers, events: Events) -> asyncio.subprocess.Process:
    """A process that has made its marker. One that gets no answer in time ends before, and is
    started again."""
    at = (servers.settings.mongodb_url, servers.settings.mongodb_database)
    async with asyncio.timeout(120):
        while True:
            builder = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", BUILDER, *at), stdout=PIPE, stderr=DEVNULL
            )
            assert builder.stdout is not None
            if await builder.stdout.readline() == b"marked\n":
                return builder
            await builder.wait()


def silent(events: Events, seconds: float) -> bool:
    """Whether the server answers nothing for that time: it builds an index, or is slow."""
    with pymongo.timeout(seconds):
        try:
            marked(events)
        except PyMongoError:
            return True
    return False


async def one_effect(store: EventStore, guard: Any) -> None:
    """No event is stored until the index is whole, and none of an old key or version after."""
    again = opened(7, "new") if guard is VERSIONS else opened(STORED + 1, "k7")
    with pytest.raises(StoreUnguarded, match=f"the index {name_of(guard)} is being built"):
        await store.append(again)
    await built(store)
    with pytest.raises(VersionConflict if guard is VERSIONS else KeyTaken):
        await store.append(again)


async def lacking(servers: EmbeddedServers, guard: Any) -> int:
    """The number of events that the index lacks, by the judge of the torture test."""
    at = (servers.settings.mongodb_url, servers.settings.mongodb_database)
    key = [*guard.document["key"]]
    found = [each for each in await unique_keys(*at) if [*each["key"]] == key]
    return max((int(each["lacking"]) for each in found), default=STORED)


async def broken_off(servers: EmbeddedServers, events: Events, guard: Any, seconds: float) -> bool:
    """Kill the server once it is silent for that time; whether a part of the index is there."""
    for each in await asyncio.to_thread(marked, events):
        await asyncio.to_thread(events.database.drop_collection, each)
    with suppress(OperationFailure):  # it is there if the build before came to its end
        await asyncio.to_thread(events.drop_index, name_of(guard))
    builder = await building(servers, events)
    while builder.returncode is None and not await asyncio.to_thread(silent, events, seconds):
        pass
    server = servers.servers["mongodb"]
    await server.kill()
    assert await builder.wait() != 0
    await server.start()
    return 0 < await lacking(servers, guard) < STORED


@pytest.mark.parametrize("guard", [KEYS, pytest.param(VERSIONS, marks=LONG_LANE)], ids=name_of)
async def test_the_server_dies_during_a_build(scratch: Path, guard: Any) -> None:
    async with own_mongodb(scratch, guard) as (servers, events):
        at = (servers.settings.mongodb_url, servers.settings.mongodb_database)
        for doubled in range(5):
            if await broken_off(servers, events, guard, 0.3 * 2**doubled):
                break
        else:
            pytest.fail("the server was never killed while it built")
        store, other = EventStore(*at), EventStore(*at)
        service = CommandService(other, [ACCOUNT])
        for number in range(0, STORED, STORED // 10):
            with pytest.raises(StoreUnavailable, match="may lack events"):
                await service.get(ACCOUNT, f"{number:026d}")
        await asyncio.gather(one_effect(store, guard), one_effect(other, guard))
        assert await lacking(servers, guard) == 0
        assert await asyncio.to_thread(marked, events) == []
        await asyncio.gather(store.close(), other.close())


@LONG_LANE
async def test_the_builder_dies_during_a_build(scratch: Path) -> None:
    async with own_mongodb(scratch, KEYS) as (servers, events):
        at = (servers.settings.mongodb_url, servers.settings.mongodb_database)
        builder = await building(servers, events)
        assert await builder.wait() == -signal.SIGKILL
        store = EventStore(*at)
        await one_effect(store, KEYS)
        assert await lacking(servers, KEYS) == 0
        assert await asyncio.to_thread(marked, events) == []
        await store.close()


@GUARDS
def test_a_marker_is_a_fault_of_its_guard_alone(guard: Any) -> None:
    there = [{"name": name_of(each), **each.document} for each in (VERSIONS, KEYS)]
    assert faults(None, there) == {}
    marker = f"{markers_of(guard)}1"
    assert faults(None, there, [marker]) == {
        name_of(guard): f"the index {name_of(guard)} is being built"
    }


@GUARDS
def test_an_index_that_is_listed_as_whole_during_its_build_may_be_a_part(guard: Any) -> None:
    there = [{"name": name_of(each), **each.document} for each in (VERSIONS, KEYS)]
    assert parts(there, []) == {}
    marker = f"{markers_of(guard)}1"
    assert [*parts(there, [marker])] == [name_of(guard)]
    others = [each for each in there if each["name"] != name_of(guard)]
    assert parts(others, [marker]) == {}


@GUARDS
async def test_nothing_is_read_by_a_part_of_an_index(
    begun: EventStore, events: Events, guard: Any
) -> None:
    service = CommandService(begun, [ACCOUNT])
    account = f"{1:026d}"
    assert (await service.get(ACCOUNT, account)).version == 1
    await asyncio.to_thread(events.database.create_collection, f"{markers_of(guard)}1")
    await asyncio.sleep(FRESH)
    with pytest.raises(StoreUnavailable, match="may lack events"):
        await service.get(ACCOUNT, account)
    await asyncio.to_thread(events.drop_index, name_of(guard))
    assert (await service.get(ACCOUNT, account)).version == 1, "all events are looked through"


async def test_a_slow_look_reads_the_markers_after_the_indexes(
    store: EventStore, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that died meanwhile lists a part of an index after it has listed no marker."""

    async def late(of: Any) -> list[Index]:
        await asyncio.sleep(2 * FRESH)
        await asyncio.to_thread(events.database.create_collection, f"{markers_of(KEYS)}1")
        return await indexes_of(of)

    monkeypatch.setattr("pipeline.eventstore.guards.indexes_of", late)
    with pytest.raises(StoreUnguarded, match="is being built"):
        await store.guards.look()


@pytest.fixture
async def begun(store: EventStore, events: Events) -> EventStore:
    """A store with an event: an empty one needs no markers."""
    await store.append(opened(1, "a"))
    return store


async def test_an_empty_collection_needs_no_marker(
    settings: Settings, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(BuildMarkers, "announce")
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    await store.close()


@GUARDS
async def test_an_abandoned_marker_has_the_index_built_again(
    begun: EventStore, events: Events, guard: Any
) -> None:
    before = await asyncio.to_thread(events.index_information)
    await asyncio.to_thread(events.database.create_collection, f"{markers_of(guard)}old")
    with pytest.raises(StoreUnguarded, match="is being built"):
        await begun.setup()
    assert await asyncio.to_thread(events.index_information) == before, "it may be at work"
    await built(begun)
    after = await asyncio.to_thread(events.index_information)
    assert {*before} ^ {*after} == {name_of(guard), f"{name_of(guard)}_2"}
    assert await asyncio.to_thread(marked, events) == []
    with pytest.raises(VersionConflict):
        await begun.append(opened(1, "b"))
    with pytest.raises(KeyTaken):
        await begun.append(opened(2, "a"))


async def test_of_builders_at_once_the_first_builds(begun: EventStore, events: Events) -> None:
    first, second = BuildMarkers(begun._events), BuildMarkers(begun._events)
    mine = await first.announce(KEYS, [])
    assert mine is not None
    assert await second.announce(KEYS, []) is None
    assert await asyncio.to_thread(marked, events) == [mine]
    successor = await second.announce(KEYS, [mine])
    assert successor is not None
    assert await first.announce(KEYS, [mine]) is None, "somebody has taken its place"
    await first.remove(mine)  # late
    assert await asyncio.to_thread(marked, events) == [successor]


@pytest.mark.parametrize(
    ("owner", "step"),
    [(IndexBuilder, "_create_marked"), (BuildMarkers, "announce")],
    ids=["on an empty collection", "on one with an event"],
)
async def test_a_builder_that_is_late_leaves_the_index_and_stops_no_command(
    settings: Settings, events: Events, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    """Another process has built it since this one has found it to be missing."""
    at = (settings.mongodb_url, settings.mongodb_database)
    late, other = EventStore(*at), EventStore(*at)
    empty, next_step = owner is IndexBuilder, getattr(owner, step)
    if not empty:
        await other.setup()
        await other.append(opened(1, "a"))
        for guard in (VERSIONS, KEYS):
            await asyncio.to_thread(events.drop_index, name_of(guard))

    async def after_the_other(*arguments: Any) -> Any:
        monkeypatch.undo()
        await other.setup()
        if empty:
            await other.append(opened(1, "a"))
        return await next_step(*arguments)

    monkeypatch.setattr(owner, step, after_the_other)
    await late.setup()
    assert await asyncio.to_thread(marked, events) == []
    names = await asyncio.to_thread(events.index_information)
    assert {*names} == {"_id_", name_of(VERSIONS), name_of(KEYS)}
    await other.append(opened(2, "b"))
    await asyncio.gather(late.close(), other.close())


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the builders."""
    clock = Clock()
    monkeypatch.setattr(build_markers, "time", clock)
    return clock


async def test_builders_that_follow_one_another_have_more_time_each(
    begun: EventStore, events: Events, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several builders on a slow machine one comes to the end at last."""
    monkeypatch.setattr(build_markers, "random", SimpleNamespace(uniform=lambda least, _: least))
    builder = BuildMarkers(begun._events)

    async def given_time() -> float:
        """Seconds after which one more marker counts as abandoned."""
        marker = f"{markers_of(KEYS)}{clock.now:g}"
        await asyncio.to_thread(events.database.create_collection, marker)
        began, _ = clock.now, await builder.there()
        while not builder.abandoned(marker):
            clock.now += 0.5
            await builder.there()
        await asyncio.to_thread(events.database.drop_collection, marker)
        return clock.now - began

    standing = f"{markers_of(VERSIONS)}old"
    await asyncio.to_thread(events.database.create_collection, standing)
    assert await builder.there() == [standing]
    assert [await given_time() for _ in range(3)] == [2, 4, 8]
    await asyncio.to_thread(events.database.drop_collection, standing)
    assert await builder.there() == []
    assert await given_time() == 1


async def test_builders_that_see_a_marker_at_once_take_their_turns_one_by_one(
    begun: EventStore, events: Events, clock: Clock
) -> None:
    marker = f"{markers_of(KEYS)}old"
    await asyncio.to_thread(events.database.create_collection, marker)
    builders = [BuildMarkers(begun._events) for _ in range(20)]
    for each in builders:
        assert await each.there() == [marker]
    assert not any(each.abandoned(marker) for each in builders)
    for clock.now in (0.5, 1.0, 1.5):
        for each in builders:
            await each.there()
    assert 0 < sum(each.abandoned(marker) for each in builders) < len(builders)
    clock.now = 2.0
    for each in builders:
        await each.there()
    assert all(each.abandoned(marker) for each in builders)


async def test_the_time_of_a_silent_server_is_not_the_builders(
    begun: EventStore, events: Events, clock: Clock
) -> None:
    """All wait for a long build, and after it others must not be faster than the builder."""
    marker = f"{markers_of(KEYS)}old"
    await asyncio.to_thread(events.database.create_collection, marker)
    builder = BuildMarkers(begun._events)
    assert await builder.there() == [marker]
    clock.now = 300.0
    assert await builder.there() == [marker]
    assert not builder.abandoned(marker)
    for clock.now in (301.0, 302.0):
        await builder.there()
    assert builder.abandoned(marker), "the server answers, and its builder does nothing"


async def test_who_could_not_build_is_the_first_to_try_again(
    begun: EventStore, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its marker has to stay, for the index that was there may be a part."""
    await asyncio.to_thread(events.drop_index, name_of(KEYS))

    async def created(*_: object) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(begun._indexes, "_created", created)
        with pytest.raises(StoreUnguarded):
            await begun.setup()
    await begun.setup()
    assert await asyncio.to_thread(marked, events) == []


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (OperationFailure("no arrays", 171, {"errmsg": "no arrays"}), 0),
        (OperationFailure("stepped down", 11602, {"errmsg": "stepped down"}), 1),
        (AutoReconnect("gone"), 1),
        (None, 1),  # the index was there
    ],
)
async def test_a_marker_stays_unless_the_outcome_is_known(
    begun: EventStore,
    events: Events,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
    left: int,
) -> None:
    await asyncio.to_thread(events.drop_index, name_of(KEYS))

    async def created(*_: object) -> bool:
        if error is not None:
            raise error
        return False

    with monkeypatch.context() as patch:
        patch.setattr(begun._indexes, "_created", created)
        with pytest.raises((StoreUnguarded, StoreUnavailable)):
            await begun.setup()
        assert len(await asyncio.to_thread(marked, events)) == left
    await built(begun)
    assert await asyncio.to_thread(marked, events) == []


async def test_duplicates_leave_no_marker(begun: EventStore, events: Events) -> None:
    await asyncio.to_thread(events.drop_index, name_of(KEYS))
    await asyncio.to_thread(events.insert_one, dict(opened(2, "a")))
    with pytest.raises(StoreUnguarded, match="is missing and can't be built: 2 events share"):
        await begun.setup()
    assert await asyncio.to_thread(marked, events) == []
