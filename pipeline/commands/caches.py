"""What a process keeps in memory and may lose: locks by name, and states of aggregates."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Generic

from pipeline.model.aggregate import S
from pipeline.model.versioned import Versioned


class Locks:
    """One lock for each name in use, within this process."""

    def __init__(self) -> None:
        self._locks: dict[str, _Lock] = {}

    def __len__(self) -> int:
        """How many locks are in use."""
        return len(self._locks)

    def __contains__(self, name: str) -> bool:
        """Whether a task has this lock or waits for it."""
        return name in self._locks

    def acquire(self, names: Collection[str]) -> "_Locked":
        """Acquire all these locks, in sorted order: so two tasks can't wait for each other."""
        return _Locked(self._locks, sorted(names))


class _Lock(asyncio.Lock):
    """It exists as long as a task has it or waits for it."""

    users = 0


class _Locked:
    """Has its locks from entering to leaving. Not a generator: each command enters one."""

    __slots__ = ("_acquired", "_locks", "_names")

    def __init__(self, locks: dict[str, _Lock], names: Sequence[str]) -> None:
        self._locks, self._names, self._acquired = locks, names, 0

    async def __aenter__(self) -> None:
        try:
            for name in self._names:
                if (lock := self._locks.get(name)) is None:
                    lock = self._locks[name] = _Lock()
                lock.users += 1
                await lock.acquire()
                self._acquired += 1
        except BaseException:
            self._leave(self._names[self._acquired])
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        for name in self._names[: self._acquired]:
            self._locks[name].release()
            self._leave(name)

    def _leave(self, name: str) -> None:
        lock = self._locks[name]
        lock.users -= 1
        if not lock.users:
            del self._locks[name]


class StateCache(Generic[S]):
    """The states of the aggregates used last. They may be old: a unique index on the version
    refuses events that were decided on an old state."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._states: OrderedDict[str, Versioned[S]] = OrderedDict()

    def get(self, aggregate_id: str) -> Versioned[S] | None:
        if aggregate_id not in self._states:
            return None
        self._states.move_to_end(aggregate_id)
        return self._states[aggregate_id]

    def put(self, state: Versioned[S]) -> None:
        self._states[state.id] = state
        self._states.move_to_end(state.id)
        while len(self._states) > self._size:
            self._states.popitem(last=False)

    def clear(self) -> None:
        self._states.clear()
