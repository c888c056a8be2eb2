"""Ends what has waited for MongoDB too long. One timer serves all: a timer for each would cost more
than its future."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pipeline.eventstore.errors import StoreUnavailable

T = TypeVar("T")


class _Waits(Protocol):
    @property
    def outcome(self) -> asyncio.Future[Any]: ...

    def end(self, error: Exception, /) -> None: ...


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """What somebody waits for, of one account."""

    account_id: str
    outcome: asyncio.Future[T]

    def end(self, result: T | Exception, /) -> None:
        if self.outcome.done():  # its caller was cancelled, or has stopped waiting
            return
        if isinstance(result, Exception):
            self.outcome.set_exception(result)
        else:
            self.outcome.set_result(result)


class Deadlines:
    """All wait for the same time, so what was added first is the first to end."""

    def __init__(self, late: str, seconds: float) -> None:
        """They end after `seconds` with `StoreUnavailable`, whose text is `late`."""
        self._late, self._seconds = late, seconds
        self._waiting: deque[tuple[_Waits, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiting: _Waits) -> None:
        """End it when its time is over, unless it has its outcome by then."""
        while self._waiting and self._waiting[0][0].outcome.done():
            self._waiting.popleft()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._seconds
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
