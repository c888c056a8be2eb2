"""What a process keeps in memory: locks and states."""

import asyncio

from pipeline.commands import Versioned
from pipeline.commands.caches import Locks, StateCache


async def test_locks_leave_nothing_behind() -> None:
    locks, inside = Locks(), 0

    async def turn(*ids: str) -> None:
        nonlocal inside
        async with locks.acquire(ids):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(turn(*ids) for ids in [("a", "b"), ("b", "a"), ("a",)] * 20))
    assert not locks
    async with locks.acquire(["b"]):
        waiting = asyncio.create_task(turn("a", "b", "c"))
        await asyncio.sleep(0)
        assert len(locks) == 2
        assert "a" in locks
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert len(locks) == 1
    assert not locks


def test_the_cache_keeps_the_aggregates_used_last() -> None:
    cache = StateCache[int](2)
    for aggregate_id in "abac":
        if not cache.get(aggregate_id):
            cache.put(Versioned(aggregate_id, 0))
    assert [bool(cache.get(aggregate_id)) for aggregate_id in "abc"] == [True, False, True]
    nothing = StateCache[int](0)
    nothing.put(Versioned("a", 0))
    assert not nothing.get("a")
