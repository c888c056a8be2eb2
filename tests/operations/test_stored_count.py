"""How often the event store is asked for the number of its events, and what is told in between."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

import pytest

from pipeline.eventstore import StoreUnavailable
from pipeline.operations.status import stored_count
from pipeline.operations.status.overview import Count
from pipeline.operations.status.probe import Unknown
from pipeline.operations.status.stored_count import Reached, StoredCount
from tests.harness import eventually


class Counting:
    """A store that counts its events one by one."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.counts, self.up = seconds, 0, True

    async def estimate(self) -> int:
        self.counts += 1
        await asyncio.sleep(self.seconds)
        await self.ping()
        return 100 * self.counts

    async def ping(self) -> None:
        if not self.up:
            raise StoreUnavailable("down")


@pytest.fixture(params=[0.05])
async def asked(request: pytest.FixtureRequest) -> AsyncIterator[tuple[StoredCount, Counting]]:
    store = Counting(request.param)
    count = StoredCount(lambda: cast(Any, store))
    yield count, store
    await count.close()


Asked = tuple[StoredCount, Counting]


def now() -> float:
    return asyncio.get_running_loop().time()


async def read(count: StoredCount, reached: Reached | None = None) -> int:
    found = await count.read(looked_at=True)
    assert isinstance(found, Count)
    return count.grown(found, reached).events


async def test_a_store_that_counts_slowly_is_left_to_its_work(asked: Asked) -> None:
    count, store = asked
    for _ in range(10):
        assert await read(count) == 100
    store.up = False
    with pytest.raises(StoreUnavailable):  # what is known of it hides nothing
        await read(count)


@pytest.mark.parametrize("asked", [0], indirect=True)
async def test_one_that_knows_is_asked_each_time(asked: Asked) -> None:
    count, _ = asked

    async def counted(number: int) -> bool:
        return await read(count) == 100 * number

    for number in range(1, 4):
        await eventually(partial(counted, number))


async def test_nobody_counts_for_nobody(asked: Asked) -> None:
    count, store = asked
    assert isinstance(await count.read(looked_at=False), Unknown)
    assert store.counts == 0
    store.up = False
    with pytest.raises(StoreUnavailable):
        await count.read(looked_at=False)


async def test_what_takes_long_is_not_done_again(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, store = asked
    monkeypatch.setattr(stored_count, "_LONG", 0.01)
    monkeypatch.setattr(stored_count, "_REST", 0)
    assert [await read(count) for _ in range(3)] == [100] * 3
    assert store.counts == 1


async def test_one_that_came_too_late_is_not_wanted_again_at_once(asked: Asked) -> None:
    """The server may still be at it, and answer nobody meanwhile."""
    count, store = asked
    store.up = False
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await read(count)
    assert store.counts == 1
    store.up = True
    assert isinstance(await count.read(looked_at=True), Unknown)
    assert store.counts == 1


async def test_a_count_goes_on_when_its_reader_has_stopped_waiting(asked: Asked) -> None:
    """The server goes on, too, and the next reader would have it begin again."""
    count, store = asked
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await read(count)
    assert await read(count) == 100
    assert store.counts == 1


async def test_the_log_tells_what_came_since(asked: Asked) -> None:
    count, _ = asked
    assert await read(count, Reached(7, now(), "monday")) == 100
    assert await read(count, Reached(12, now(), "monday")) == 105
    assert await read(count, None) == 105
    assert await read(count, Reached(11, now(), "monday")) == 104  # one was counted twice
    assert await read(count, Reached(0, now(), "tuesday")) == 104  # the stream was made anew
    assert await read(count, Reached(5, now(), "tuesday")) == 109


async def test_a_new_count_is_right_without_the_log(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, _ = asked
    monkeypatch.setattr(stored_count, "_REST", 0)
    assert await read(count, Reached(7, now(), "monday")) == 100
    assert await read(count, Reached(107, now(), "monday")) == 200
