"""Requests that ask the same at the same time share a search, and none gets an older one."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest

from api.balances.shared_searches import SharedSearches
from tests.harness import eventually


class Searches:
    """Searches that end when they are let; each answers with its number."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._ends: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.failing: set[int] = set()

    async def search(self, key: str) -> int:
        self.begun.append(key)
        number = len(self.begun)
        await self._ends[number].wait()
        if number in self.failing:
            raise ValueError(f"search {number}")
        return number

    def end(self, *numbers: int) -> None:
        for each in numbers:
            self._ends[each].set()

    async def have_begun(self, count: int) -> None:
        await eventually(lambda: len(self.begun) >= count, every=0.001)


@pytest.fixture
def searches() -> Searches:
    return Searches()


@pytest.fixture
async def shared(searches: Searches) -> AsyncIterator[SharedSearches[str, int]]:
    shared = SharedSearches(searches.search, patience=30)
    yield shared
    await shared.close()


def asking(shared: SharedSearches[str, int], key: str, count: int) -> list["asyncio.Task[int]"]:
    return [asyncio.create_task(shared.get(key)) for _ in range(count)]


async def test_requests_that_come_together_share_one_search(
    searches: Searches, shared: SharedSearches[str, int]
) -> None:
    asked = asking(shared, "a", 5)
    searches.end(1)
    assert await asyncio.gather(*asked) == [1] * 5


async def test_whoever_comes_during_a_search_gets_the_next_one(
    searches: Searches, shared: SharedSearches[str, int]
) -> None:
    (first,) = asking(shared, "a", 1)
    await searches.have_begun(1)
    later = asking(shared, "a", 5)
    await asyncio.sleep(0)
    assert searches.begun == ["a"]
    searches.end(1)
    assert await first == 1
    await searches.have_begun(2)
    last = asking(shared, "a", 2)
    searches.end(2)
    assert await asyncio.gather(*later) == [2] * 5
    searches.end(3)
    assert await asyncio.gather(*last) == [3] * 2


async def test_different_pages_wait_for_none_of_each_other(
    searches: Searches, shared: SharedSearches[str, int]
) -> None:
    asked = asking(shared, "a", 2) + asking(shared, "b", 2)
    await searches.have_begun(2)
    searches.end(1, 2)
    assert sorted(await asyncio.gather(*asked)) == [1, 1, 2, 2]


async def test_a_client_that_leaves_takes_the_answer_from_nobody(
    searches: Searches, shared: SharedSearches[str, int]
) -> None:
    left, stayed = asking(shared, "a", 2)
    await searches.have_begun(1)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    searches.end(1)
    assert await stayed == 1


async def test_a_failure_goes_to_all_who_wait_and_to_nobody_after_them(
    searches: Searches, shared: SharedSearches[str, int]
) -> None:
    searches.failing.add(1)
    asked = asking(shared, "a", 2)
    await searches.have_begun(1)
    after = asking(shared, "a", 2)
    searches.end(1)
    assert all(
        isinstance(each, ValueError)
        for each in await asyncio.gather(*asked, return_exceptions=True)
    )
    searches.end(2)
    assert await asyncio.gather(*after) == [2, 2]


async def test_a_search_that_hangs_delays_the_next_ones_a_little(searches: Searches) -> None:
    shared = SharedSearches(searches.search, patience=0.01)
    asked: list[asyncio.Task[int]] = []
    for begun in (1, 2, 3):
        asked += asking(shared, "a", 1)
        await searches.have_begun(begun)
    for number in (2, 1, 3):
        searches.end(number)
        assert await asked[number - 1] == number
    assert not shared._under_way
    await shared.close()


async def test_nothing_is_kept_of_a_search_that_has_ended(
    searches: Searches, shared: SharedSearches[str, int]
) -> None:
    for number in (1, 2):
        (asked,) = asking(shared, "a", 1)
        searches.end(number)
        assert await asked == number
    assert not shared._waiting
    assert not shared._under_way


async def test_closing_ends_what_is_under_way_and_what_waits(
    searches: Searches, shared: SharedSearches[str, int]
) -> None:
    (first,) = asking(shared, "a", 1)
    await searches.have_begun(1)
    (second,) = asking(shared, "a", 1)
    await asyncio.sleep(0)
    await shared.close()
    ended = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended)
