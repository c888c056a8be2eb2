"""The event store as rebuilds read it: live traffic needs it, too."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol

from pipeline.model.events import Event
from pipeline.support.throttle import Throttle


class ReplayStore(Protocol):
    """The event store, as far as a rebuild reads it; see `EventStore.replay`."""

    def replay(
        self,
        slots: Iterable[int],
        begin: Callable[[int], None],
        rest: Callable[[float, int], Awaitable[None]],
    ) -> AsyncIterator[list[Event]]: ...


class ThrottledStore:
    """The event store, read as fast as the throttle allows."""

    def __init__(self, store: ReplayStore, throttle: Throttle) -> None:
        self._store, self._throttle = store, throttle

    def replay(
        self, slots: Iterable[int], begin: Callable[[int], None] = lambda _: None
    ) -> AsyncIterator[list[Event]]:
        """The slots' events in order; `begin` is called before a slot is read."""
        return self._store.replay(slots, begin, self._throttle.rest)
