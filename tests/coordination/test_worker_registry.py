"""Who is here, who has left and who is lost; and how fast a count grows."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from pipeline.coordination.partition_leases import REMEMBERED, PartitionLeases
from pipeline.coordination.worker_registry import RegistryReader, Worker, WorkerRegistry, workers
from pipeline.operations.status.rate import Rate
from pipeline.support.settings import Settings
from tests.harness import eventually

NOW = 1_767_225_600_000
LEASE = 10.0
SHORT = 3.0
"""Of one that runs out in a test. Redis has a third of it to answer, also on a busy machine."""


def ago(seconds: float) -> int:
    return NOW - int(seconds * 1000)


def states(registry: WorkerRegistry) -> dict[str, str]:
    return {each.name: each.state for each in workers(registry, LEASE, {})}


# ---------------------------------------------------------------- what the notes come to


def test_a_registration_that_ran_out_without_a_goodbye_is_a_lost_worker() -> None:
    registry = WorkerRegistry(NOW, {"a.1": ago(1), "b.1": ago(11)}, {"c.1": ago(3)})
    assert states(registry) == {"a": "here", "b": "lost", "c": "left"}


def test_each_has_its_partitions_and_when_it_was_seen() -> None:
    (found,) = workers(WorkerRegistry(NOW, {"vm.7-1.ULID": ago(2)}, {}), LEASE, {"vm.7-1": [1, 4]})
    assert found == Worker("vm.7-1", "here", [1, 4], "2025-12-31T23:59:58.000Z")


def test_a_name_is_told_once_as_it_was_seen_last() -> None:
    assert states(WorkerRegistry(NOW, {"a.1": ago(60), "a.2": ago(1)}, {})) == {"a": "here"}
    assert states(WorkerRegistry(NOW, {"a.1": ago(60)}, {"a.2": ago(30)})) == {"a": "left"}
    assert states(WorkerRegistry(NOW, {"a.2": ago(30)}, {"a.1": ago(60)})) == {"a": "lost"}


def test_who_is_long_gone_is_forgotten() -> None:
    registry = WorkerRegistry(NOW, {"a.1": ago(REMEMBERED + 1)}, {"b.1": ago(REMEMBERED + 1)})
    assert states(registry) == {}
    assert [each.state for each in workers(registry, REMEMBERED + 2, {})] == ["here", "left"]


# ---------------------------------------------------------------- what Redis notes


@pytest.fixture
async def reader(settings: Settings) -> AsyncIterator[RegistryReader]:
    reader = RegistryReader(settings.redis_url, "reader", LEASE)
    yield reader
    await reader.close()


async def test_a_worker_that_falls_silent_stays_noted_and_is_alive_no_more(
    settings: Settings, reader: RegistryReader
) -> None:
    silent, other = (PartitionLeases(settings.redis_url, f"{n}.1", SHORT) for n in "ab")
    await silent.beat(4, ())
    assert (await silent.acquire(4, [0, 1])) == {0, 1}
    assert (await reader.registry()).beats.keys() == {"a.1"}

    async def lost() -> bool:
        view = await other.beat(4, ())
        return view.workers == {"b.1"} and view.owners == (None,) * 4

    await eventually(lost)
    registry = await reader.registry()
    assert {e.name: e.state for e in workers(registry, SHORT, {})} == {"a": "lost", "b": "here"}
    await silent.beat(4, ())
    assert (await reader.read(4)).workers == {"a.1", "b.1"}
    await silent.leave(4)
    registry = await reader.registry()
    assert list(registry.beats) == ["b.1"]
    assert list(registry.left) == ["a.1"]
    await asyncio.gather(silent.close(), other.close())


async def test_what_is_remembered_goes_by_itself(
    settings: Settings, reader: RegistryReader
) -> None:
    async with redis.asyncio.from_url(settings.redis_url) as client:
        await client.zadd("bank:{partitions}:workers", {"old.1": 1})
        await client.zadd("bank:{partitions}:left", {"older.1": 1})
        worker = PartitionLeases(settings.redis_url, "a.1", LEASE)
        await worker.beat(4, ())
        await worker.leave(4)
        assert (await reader.registry()).beats == {}
        assert (await reader.registry()).left.keys() == {"a.1"}
        assert 0 < await client.pttl("bank:{partitions}:left") <= REMEMBERED * 1000
    await worker.close()


# ---------------------------------------------------------------- how fast


def test_a_rate_is_known_from_the_second_reading_on() -> None:
    rate = Rate()
    assert rate.after(100, 1.0) is None
    assert rate.after(100, 1.0) is None  # the same reading
    assert rate.after(150, 2.0) == 50
    assert rate.after(150, 3.0) == 25


def test_a_rate_is_that_of_the_last_few_seconds() -> None:
    rate = Rate()
    for second in range(20):
        rate.after(second * 100, second)
    assert rate.after(1900, 20) == 80
    for second in range(21, 26):
        found = rate.after(1900, second)
    assert found == 0


def test_two_readings_that_are_far_apart_tell_nothing_of_now() -> None:
    rate = Rate()
    rate.after(0, 0.0)
    assert rate.after(100, 10.0) == 10
    assert rate.after(200, 60.0) is None
    assert rate.after(300, 61.0) == 100


def test_what_is_unknown_or_another_begins_anew() -> None:
    rate = Rate()
    rate.after(0, 0.0, of="one")
    assert rate.after(10, 1.0, of="one") == 10
    assert rate.after(20, 2.0, of="other") is None
    assert rate.after(30, 3.0, of="other") == 10
    assert rate.after(None) is None
    assert rate.after(40, 4.0, of="other") is None


def test_a_count_that_goes_down_stands_still() -> None:
    rate = Rate()
    rate.after(100, 0.0)
    assert rate.after(90, 1.0) == 0
