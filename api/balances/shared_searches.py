"""One search for all requests that ask the same at the same time.

While a search for a page is under way, requests for that page wait, and one that begins after its
end answers them all. No request gets a search that began before it came: meanwhile a search for
another page may have shown its client newer documents, and no version that a reader sees may go
back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.correlation import detached

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


PATIENCE: Final = 0.5
"""Seconds for which a search waits for the one before it, which may hang."""


class SharedSearches(Generic[K, T]):
    """The searches of one service, by what they ask for: of each key the newest that is under way,
    and one that has not begun."""

    def __init__(self, search: Callable[[K], Awaitable[T]], patience: float = PATIENCE) -> None:
        self._search, self._patience = search, patience
        self._waiting: dict[K, asyncio.Task[T]] = {}
        self._under_way: dict[K, asyncio.Task[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    async def get(self, key: K) -> T:
        """The answer of a search that begins after this call. A failure goes to all who wait."""
        search = self._waiting.get(key)
        if search is None:
            # Detached: it is no part of the request that happens to start it.
            search = self._waiting[key] = detached(self._run(key))
            self._tasks.add(search)
            search.add_done_callback(self._tasks.discard)
        # A caller that is cancelled must not end the search of the others.
        return await asyncio.shield(search)

    async def close(self) -> None:
        for each in list(self._tasks):
            await cancel_and_wait(each)

    async def _run(self, key: K) -> T:
        if before := self._under_way.get(key):
            await asyncio.wait((before,), timeout=self._patience)
        # From here on it is too late to join: whoever comes now starts the next one.
        search = self._under_way[key] = self._waiting.pop(key)
        try:
            return await self._search(key)
        finally:
            if self._under_way.get(key) is search:
                del self._under_way[key]
