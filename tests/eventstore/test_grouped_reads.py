"""Reads wanted at the same time are one read, which began after each was asked for. Pure."""

import asyncio
from collections.abc import Collection

import pytest
from pymongo.errors import OperationFailure

from pipeline.eventstore import StoreUnavailable
from pipeline.eventstore.grouped_reads import GROUP, GroupedReads


class Store:
    """It answers when it is let, with what it had when it was asked."""

    def __init__(self) -> None:
        self.outage: Exception | None = None
        self.value, self.reads = 1, list[set[str]]()
        self.answers = asyncio.Semaphore(0)
        self.reached = asyncio.Semaphore(0)

    async def read(self, account_ids: Collection[str]) -> dict[str, int]:
        self.reads.append({*account_ids})
        found = dict.fromkeys(account_ids, self.value)
        self.reached.release()
        await self.answers.acquire()
        if self.outage is not None:
            raise self.outage
        if "bad" in account_ids:
            raise ValueError("no answer")
        return found


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def reads(store: Store) -> GroupedReads[int]:
    return GroupedReads(store.read)


async def test_none_joins_a_read_that_began_before(store: Store, reads: GroupedReads[int]) -> None:
    first = asyncio.create_task(reads.get("a"))
    await store.reached.acquire()
    store.value = 2
    later = [asyncio.create_task(reads.get(each)) for each in ("a", "b", "a")]
    await asyncio.sleep(0)
    store.answers.release()
    assert await first == 1
    store.answers.release()
    assert await asyncio.gather(*later) == [2, 2, 2]
    assert store.reads == [{"a"}, {"a", "b"}]


async def test_many_are_several_reads(store: Store, reads: GroupedReads[int]) -> None:
    names = [f"s{number}" for number in range(GROUP + 1)]
    store.answers.release()
    store.answers.release()
    assert await asyncio.gather(*map(reads.get, names)) == [1] * len(names)
    assert [len(each) for each in store.reads] == [GROUP, 1]


async def test_a_failure_is_of_one_read(store: Store, reads: GroupedReads[int]) -> None:
    group = [asyncio.create_task(reads.get(each)) for each in ("bad", "a")]
    await store.reached.acquire()
    later = asyncio.create_task(reads.get("b"))
    await asyncio.sleep(0)
    store.answers.release()
    store.answers.release()
    failed = await asyncio.gather(*group, return_exceptions=True)
    assert [type(each) for each in failed] == [StoreUnavailable] * 2
    assert await later == 1


async def test_none_waits_too_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.eventstore.grouped_reads.DEADLINE", 0.01)
    reads = GroupedReads(store.read)
    first, later = asyncio.create_task(reads.get("a")), asyncio.create_task(reads.get("b"))
    late = await asyncio.gather(first, later, return_exceptions=True)
    assert [type(each) for each in late] == [StoreUnavailable] * 2
    monkeypatch.undo()
    store.answers.release()
    store.answers.release()
    assert await GroupedReads(store.read).get("c") == 1


async def test_who_stops_waiting_ends_no_read(store: Store, reads: GroupedReads[int]) -> None:
    gone, other = (asyncio.create_task(reads.get(each)) for each in ("a", "b"))
    await store.reached.acquire()
    gone.cancel()
    await asyncio.wait({gone})
    store.answers.release()
    assert await other == 1
    assert gone.cancelled()


async def test_nothing_is_read_for_those_who_are_gone(
    store: Store, reads: GroupedReads[int]
) -> None:
    first = asyncio.create_task(reads.get("a"))
    await store.reached.acquire()
    gone = [asyncio.create_task(reads.get(f"s{number}")) for number in range(2 * GROUP)]
    last = asyncio.create_task(reads.get("z"))
    await asyncio.sleep(0)
    for each in gone:
        each.cancel()
    store.answers.release()
    store.answers.release()
    assert await first == await last == 1
    assert store.reads == [{"a"}, {"z"}]


async def test_an_outage_is_of_all_who_wait(store: Store, reads: GroupedReads[int]) -> None:
    cause = OperationFailure("refused")
    store.outage = StoreUnavailable("away")
    store.outage.__cause__ = cause
    first = asyncio.create_task(reads.get("a"))
    await store.reached.acquire()
    others = [asyncio.create_task(reads.get(f"s{number}")) for number in range(2 * GROUP)]
    await asyncio.sleep(0)
    store.answers.release()
    failed = await asyncio.gather(first, *others, return_exceptions=True)
    assert {(type(each), str(each)) for each in failed} == {(StoreUnavailable, "away")}
    assert {getattr(each, "__cause__", None) for each in failed} == {cause}
    assert len({*map(id, failed)}) == len(failed)
    store.outage = None
    store.answers.release()
    assert await reads.get("b") == 1
    assert store.reads == [{"a"}, {"b"}]


async def test_a_fault_of_ours_is_logged(
    store: Store, reads: GroupedReads[int], caplog: pytest.LogCaptureFixture
) -> None:
    store.answers.release()
    with pytest.raises(StoreUnavailable) as failed:
        await reads.get("bad")
    assert type(failed.value.__cause__) is ValueError
    assert [each.exc_info[1] for each in caplog.records if each.exc_info] == [
        failed.value.__cause__
    ]
