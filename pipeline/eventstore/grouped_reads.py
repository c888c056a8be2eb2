"""Reads that are wanted at the same time, of different accounts, are one read.

A lone one waits for nobody. While one is under way the next one gathers: none joins a read that
began before it was asked for, so each has what is stored, and not what is deleted, by then.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Generic, TypeVar

from pipeline.eventstore.deadlines import Deadlines, Waiting
from pipeline.eventstore.errors import StoreUnavailable
from pipeline.support.correlation import detached

T = TypeVar("T")

DEADLINE: Final = 10.0
"""Seconds after which who waits gets `StoreUnavailable`."""
GROUP: Final = 100
"""Accounts of one read at most."""


class GroupedReads(Generic[T]):
    """`read` returns what there is of each of the accounts, or raises."""

    def __init__(self, read: Callable[[Collection[str]], Awaitable[Mapping[str, T]]]) -> None:
        self._read = read
        self._waiting: deque[Waiting[T]] = deque()
        self._deadlines = Deadlines("MongoDB did not answer in time")
        self._reader: asyncio.Task[None] | None = None

    async def get(self, account_id: str) -> T:
        """What there is of the account. Raises `StoreUnavailable`."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiting = Waiting(account_id, outcome)
        self._waiting.append(waiting)
        self._deadlines.add(waiting, DEADLINE)
        if self._reader is None or self._reader.done():
            # Detached: who stops waiting must not end the read of the others.
            self._reader = detached(self._read_waiting())
        return await outcome

    async def _read_waiting(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            try:
                found = await self._read({each.account_id for each in group})
                for each in group:
                    each.end(found[each.account_id])
            except Exception as error:
                for each in group:
                    each.end(StoreUnavailable(str(error)))
