"""One result for many concurrent callers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.correlation import detached

T = TypeVar("T")


class SharedReading(Generic[T]):
    """The result of `read`, kept for `seconds`. One call at a time, however many callers."""

    def __init__(self, read: Callable[[], Awaitable[T]], seconds: float = 1.0) -> None:
        self._read, self._seconds = read, seconds
        self._reading: asyncio.Task[T] | None = None
        self._until = 0.0

    async def get(self) -> T:
        """The kept result, or a new one. A failure goes to all who wait, and is not kept."""
        reading = self._reading
        if reading is None or (reading.done() and not self._fresh(reading)):
            # Detached: the reading is no part of the request that happens to start it.
            reading = self._reading = detached(self._new())
        # A caller that is cancelled must not end the reading of the others.
        return await asyncio.shield(reading)

    async def close(self) -> None:
        if self._reading is not None:
            await cancel_and_wait(self._reading)

    async def _new(self) -> T:
        answer = await self._read()
        self._until = asyncio.get_running_loop().time() + self._seconds
        return answer

    def _fresh(self, reading: asyncio.Task[T]) -> bool:
        failed = reading.cancelled() or reading.exception() is not None
        return not failed and asyncio.get_running_loop().time() < self._until
