"""Replaying slots of the event store into a generation being built, beside live traffic.

Some slots at a time: from the moment that they are begun, live events of theirs are written, too.
A few bulks are in flight; the cursor follows what is written.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from pipeline.events import SLOTS
from pipeline.histories import Replayed, histories
from pipeline.projection import Advance
from pipeline.tables.documents import Documents
from pipeline.tables.states import State

CHUNK: Final = 250
IN_FLIGHT: Final = 2
EVENTS_BEGUN: Final = 5_000
"""Slots with about so many events are begun together: fewer, and queries cost more than reading;
more, and live accounts are loaded for a second write long before their replay."""


class Pace:
    """Holds a worker's replays to so many events a second; 0 holds nothing."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free = rate, 0.0

    async def spend(self, events: int) -> None:
        if self._rate <= 0:
            return
        now = time.monotonic()
        self._free = max(now, self._free) + events / self._rate
        await asyncio.sleep(self._free - now)


class Replay:
    """One partition's replay. `reached` hears of each slot below which all is written, and of how
    many events that took; `begin` of each slot up to which live events are to be written."""

    def __init__(
        self,
        store: Replayed,
        documents: Documents,
        pace: Pace,
        begin: Callable[[int], None],
        reached: Callable[[int, int], Awaitable[None]],
    ) -> None:
        self._store, self._documents, self._pace = store, documents, pace
        self._begin, self._reached = begin, reached
        self._flying: deque[tuple[asyncio.Task[None] | None, int, int]] = deque()

    async def run(self, slots: range, events_in_store: int) -> None:
        """Replay the slots. Raises `GenerationGone`, and the errors of store and parking lot."""
        step = max(1, EVENTS_BEGUN * SLOTS // max(1, events_in_store))
        try:
            for start in range(slots.start, slots.stop, step):
                stop = min(start + step, slots.stop)
                self._begin(stop)
                await self._some(range(start, stop))
            while self._flying:
                await self._land()
        finally:
            tasks = [task for task, *_ in self._flying if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _some(self, slots: range) -> None:
        read = histories(self._documents.projection, self._store, slots, CHUNK)
        async with aclosing(read) as chunks:  # type: ignore[type-var]
            async for accounts, events, slot in chunks:
                await self._pace.spend(events)
                await self._fly(asyncio.create_task(self._write(accounts)), slot, events)
        await self._fly(None, slots.stop, 0)

    async def _fly(self, task: asyncio.Task[None] | None, upto: int, events: int) -> None:
        self._flying.append((task, upto, events))
        while len(self._flying) > IN_FLIGHT:
            await self._land()

    async def _land(self) -> None:
        task, upto, events = self._flying[0]
        if task is not None:
            await task
        self._flying.popleft()
        await self._reached(upto, events)

    async def _write(self, accounts: Sequence[Advance]) -> None:
        """Nothing was there: what is now is a live event's, and its version decides."""
        states = [State(0, document) for each in accounts for document in each.documents]
        await self._documents.write(states)
        for each in accounts:
            if each.poison is not None and not each.more:
                await self._documents.park(each.poison)
