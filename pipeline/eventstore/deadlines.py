"""Ends what has waited for MongoDB too long. One timer serves all: a timer for each would cost more
than its future."""

import asyncio
from collections import deque
from typing import Any, Protocol

from pipeline.eventstore.errors import StoreUnavailable


class Waiting(Protocol):
    """What its caller waits for."""

    @property
    def outcome(self) -> asyncio.Future[Any]: ...

    def end(self, error: Exception, /) -> None: ...


class Deadlines:
    """All wait for the same time, so what was added first is the first to end."""

    def __init__(self, late: str) -> None:
        """`late`: the text of `StoreUnavailable`, with which they end."""
        self._late = late
        self._waiting: deque[tuple[Waiting, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiting: Waiting, seconds: float) -> None:
        """End it in so many seconds, unless it has its outcome by then."""
        while self._waiting and self._waiting[0][0].outcome.done():
            self._waiting.popleft()
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        self._waiting.append((waiting, until))
        if self._timer is None:
            self._timer = loop.call_at(until, self._expire)

    def _expire(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while self._waiting:
            waiting, until = self._waiting[0]
            if until > loop.time() and not waiting.outcome.done():
                self._timer = loop.call_at(until, self._expire)
                return
            waiting.end(StoreUnavailable(self._late))
            self._waiting.popleft()
