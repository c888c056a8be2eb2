"""How fast a worker's rebuilds read the event store, for live traffic needs it, too."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from math import inf
from typing import Final, Protocol, TypeVar

from pipeline.model.events import Event

T = TypeVar("T")

QUIET_SECONDS: Final = 2.0
"""Without live traffic, before a rebuild reads on without a rest."""


class Store(Protocol):
    """What is needed of the event store; see `EventStore.replay`."""

    def replay(
        self,
        slots: Iterable[int],
        begin: Callable[[int], None],
        rest: Callable[[float, int], Awaitable[None]],
    ) -> AsyncIterator[list[Event]]: ...


class Throttle:
    """Holds a worker's rebuilds to so many events a second; a `rate` of 0 holds nothing.

    Beside live traffic they rest as long as they read. `live` tells when some was applied last, by
    the monotonic clock.
    """

    def __init__(self, rate: float = 0.0, live: Callable[[], float] = lambda: -inf) -> None:
        self._rate, self._free = rate, 0.0
        self._live = live
        self._one = asyncio.Lock()

    async def rest(self, seconds: float, events: int) -> None:
        """After a read that took so long and brought so many events."""
        now = time.monotonic()
        if self._rate > 0:
            self._free = max(now, self._free) + events / self._rate
        pause = seconds if now - self._live() < QUIET_SECONDS else 0.0
        await asyncio.sleep(max(pause, self._free - now))

    async def gently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask for something else that takes long: one at a time, and with a rest after it."""
        async with self._one:
            began = time.monotonic()
            answer = await ask()
            await self.rest(time.monotonic() - began, 0)
        return answer


class ThrottledStore:
    """The event store, read at a worker's pace."""

    def __init__(self, store: Store, pace: Throttle) -> None:
        self._store, self._pace = store, pace

    def replay(
        self, slots: Iterable[int], begin: Callable[[int], None] = lambda _: None
    ) -> AsyncIterator[list[Event]]:
        """The slots' events in order; `begin` is told before slots are read."""
        return self._store.replay(slots, begin, self._pace.rest)
