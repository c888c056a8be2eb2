"""Limits how fast a worker reads all that is stored, while live traffic needs the store, too."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final, TypeVar

T = TypeVar("T")

QUIET_SECONDS: Final = 2.0
"""After so long without live traffic nothing pauses."""


class Throttle:
    """Limits those who share it to `rate` events a second; 0: no limit.

    Beside live traffic they also pause as long as they read. `live` returns when some was applied
    last, by the monotonic clock.
    """

    def __init__(self, rate: float = 0.0, live: Callable[[], float] = lambda: -inf) -> None:
        self._rate, self._free = rate, 0.0
        self._live = live
        self._one = asyncio.Lock()

    async def rest(self, seconds: float, events: int) -> None:
        """Pause after a read that took so many seconds and returned so many events."""
        now = time.monotonic()
        if self._rate > 0:
            self._free = max(now, self._free) + events / self._rate
        pause = seconds if now - self._live() < QUIET_SECONDS else 0.0
        await asyncio.sleep(max(pause, self._free - now))

    async def gently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make another long call: one at a time, with a pause after it."""
        async with self._one:
            began = time.monotonic()
            answer = await call()
            await self.rest(time.monotonic() - began, 0)
        return answer
