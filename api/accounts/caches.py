"""What a process keeps to be quick, and may lose: locks by name, and states of accounts."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from api.accounts.account import Account


class Locks:
    """One lock for each name in use: those in a process who need the same one take turns."""

    def __init__(self) -> None:
        # Weak: a lock lives as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        """How many locks are in use."""
        return len(self._locks)

    def __contains__(self, name: str) -> bool:
        """Whether somebody holds this one or waits for it."""
        return name in self._locks

    @asynccontextmanager
    async def hold(self, names: Collection[str]) -> AsyncIterator[None]:
        """Hold all these locks, taken in sorted order so that none wait in a ring."""
        held: list[asyncio.Lock] = []
        try:
            for name in sorted(names):
                lock = self._locks.setdefault(name, asyncio.Lock())
                await lock.acquire()
                held.append(lock)
            yield
        finally:
            for lock in held:
                lock.release()


class StateCache:
    """The states of the accounts used last. May be old: versions guard what is built on them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._states: OrderedDict[str, Account] = OrderedDict()

    def get(self, account_id: str) -> Account | None:
        if account_id not in self._states:
            return None
        self._states.move_to_end(account_id)
        return self._states[account_id]

    def put(self, state: Account) -> None:
        self._states[state.id] = state
        self._states.move_to_end(state.id)
        while len(self._states) > self._size:
            self._states.popitem(last=False)

    def drop(self, account_ids: Collection[str]) -> None:
        for account_id in account_ids:
            self._states.pop(account_id, None)
