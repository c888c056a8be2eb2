"""How fast rebuilds read: at most at a rate, and beside live traffic half of the time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from pipeline.agents.rebuild.throttle import ThrottledStore
from pipeline.banking.events import CREATED
from pipeline.eventstore import EventStore
from pipeline.model.events import SLOTS, Event, new_event
from pipeline.support.settings import Settings
from pipeline.support.throttle import QUIET_SECONDS, Throttle
from tests.bank import append

READ = 0.02


async def rested(pace: Throttle, events: int = 0) -> float:
    began = time.monotonic()
    await pace.rest(READ, events)
    return time.monotonic() - began


async def test_without_live_traffic_nothing_rests() -> None:
    assert min([await rested(Throttle()) for _ in range(3)]) < READ
    before = Throttle(live=lambda: time.monotonic() - 2 * QUIET_SECONDS)
    assert min([await rested(before) for _ in range(3)]) < READ


async def test_beside_live_traffic_it_rests_as_long_as_it_reads() -> None:
    busy = Throttle(live=time.monotonic)
    assert min([await rested(busy) for _ in range(3)]) >= READ


async def test_beside_live_traffic_slow_reads_rest_too() -> None:
    """However long one takes: that is just where live traffic suffers."""
    took, began = 1.1 * QUIET_SECONDS, time.monotonic()
    await Throttle(live=time.monotonic).rest(took, 0)
    assert time.monotonic() - began >= took


async def test_a_rate_holds_all_reads_together() -> None:
    slow, began = Throttle(rate=1000), time.monotonic()
    await asyncio.gather(*(slow.rest(0, 20) for _ in range(3)))
    assert time.monotonic() - began >= 0.06


async def test_other_questions_are_asked_one_at_a_time() -> None:
    asked, most = 0, 0

    async def ask() -> str:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        await asyncio.sleep(READ)
        asked -= 1
        return "answer"

    gentle = Throttle()
    assert await asyncio.gather(*(gentle.gently(ask) for _ in range(3))) == ["answer"] * 3
    assert most == 1


class Told:
    """The event store, and what it says of its reads."""

    def __init__(self, store: EventStore) -> None:
        self._store, self.reads = store, list[tuple[float, int]]()

    def replay(
        self,
        slots: Iterable[int],
        begin: Callable[[int], None],
        rest: Callable[[float, int], Awaitable[None]],
    ) -> AsyncIterator[list[Event]]:
        async def noted(seconds: float, events: int) -> None:
            self.reads.append((seconds, events))
            await rest(seconds, events)

        return self._store.replay(slots, begin, noted)


async def test_the_store_tells_of_each_read(settings: Settings) -> None:
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    try:
        await store.setup()
        events = [
            new_event(f"account-{n}", 1, CREATED, {"owner": "A", "money": 0}) for n in range(40)
        ]
        await append(store, [[each] for each in events])
        told = Told(store)
        read = [
            e["_id"]
            async for es in ThrottledStore(told, Throttle()).replay(range(SLOTS))
            for e in es
        ]
    finally:
        await store.close()
    assert sorted(read) == sorted(event["_id"] for event in events)
    assert sum(events for _, events in told.reads) == len(events)
    assert min(seconds for seconds, _ in told.reads) > 0
