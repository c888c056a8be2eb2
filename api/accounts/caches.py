"""What a process keeps in memory and may lose: locks by name, and states of accounts."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from api.accounts.account import Account


class Locks:
    """One lock for each name in use, within this process."""

    def __init__(self) -> None:
        # Weak: a lock exists as long as a task has it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        """How many locks are in use."""
        return len(self._locks)

    def __contains__(self, name: str) -> bool:
        """Whether a task has this lock or waits for it."""
        return name in self._locks

    @asynccontextmanager
    async def acquire(self, names: Collection[str]) -> AsyncIterator[None]:
        """Acquire all these locks, in sorted order: so two tasks can't wait for each other."""
        acquired: list[asyncio.Lock] = []
        try:
            for name in sorted(names):
                lock = self._locks.setdefault(name, asyncio.Lock())
                await lock.acquire()
                acquired.append(lock)
            yield
        finally:
            for lock in acquired:
                lock.release()


class StateCache:
    """The states of the accounts used last. They may be old: a unique index on the version refuses
    events that were decided on an old state."""

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

    def clear(self) -> None:
        self._states.clear()
