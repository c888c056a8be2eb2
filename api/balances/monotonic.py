"""Monotonic reads: no version that this process has shown on a route goes back there.

Elasticsearch shows a write on one copy of a shard before the others have it, and a node that was
away shows old documents until it learns that it was. So another copy may have an older document
than was shown already. Such an answer is not shown; it is asked for again until it has caught up.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

from pipeline.eventstore import StoreUnavailable
from pipeline.search import ProjectionUnavailable

T = TypeVar("T")

Versions = Mapping[str, int | None]
"""What an answer shows: the version of each account, 0 for one that it should have and has not, and
None where somebody has changed the document so that it has none: such a one is shown as it is."""

PATIENCE: Final = 5.0
"""Seconds for which an answer is asked for again; then the read fails."""
KEPT_SECONDS: Final = 300.0
"""A version that was last shown so long ago is forgotten: what somebody has restored from a
snapshot must be readable again, whether workers are there or not."""
MOST: Final = 20_000
"""So many accounts are remembered on a route, those that were shown last."""
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.25
_CHECK_SECONDS: Final = 2.0
"""The event store is asked for so long whether a version that was shown was ever true."""


class _Shown(NamedTuple):
    version: int
    at: float


class MonotonicReads:
    """The reads of one route. `head` is the version of an account's last event in the event store;
    it may raise `StoreUnavailable`."""

    def __init__(self, head: Callable[[str], Awaitable[int]]) -> None:
        self._head = head
        self._shown: OrderedDict[str, _Shown] = OrderedDict()

    async def get(self, read: Callable[[], Awaitable[T]], versions: Callable[[T], Versions]) -> T:
        """The first answer of `read` that shows nothing older than was shown before.

        Raises what `read` raises, and `ProjectionUnavailable` if there is no such answer in time.
        """
        answer = await read()
        deadline, pause = time.monotonic() + PATIENCE, _FIRST_PAUSE
        checked: set[str] = set()
        while await self._goes_back(versions(answer), checked):
            if time.monotonic() + pause > deadline:
                raise ProjectionUnavailable("the projection is behind what it has shown")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            answer = await read()
        self._note(versions(answer))
        return answer

    async def _goes_back(self, shows: Versions, checked: set[str]) -> bool:
        self._forget()
        if unchecked := self._fallen(shows) - checked:
            await self._check(unchecked)
            checked |= unchecked
        return bool(self._fallen(shows))

    def _fallen(self, shows: Versions) -> set[str]:
        """The accounts that would go back."""
        return {
            account
            for account, version in shows.items()
            if version is not None
            and (shown := self._shown.get(account))
            and version < shown.version
        }

    async def _check(self, accounts: Iterable[str]) -> None:
        """Forget what was never true: somebody had changed the document by hand."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CHECK_SECONDS):
                await asyncio.gather(*map(self._check_one, accounts))

    async def _check_one(self, account: str) -> None:
        with suppress(StoreUnavailable):
            head = await self._head(account)
            if (shown := self._shown.get(account)) and head < shown.version:
                del self._shown[account]

    def _note(self, shows: Versions) -> None:
        now = time.monotonic()
        for account, version in shows.items():
            if version:
                self._shown[account] = _Shown(version, now)
                self._shown.move_to_end(account)

    def _forget(self) -> None:
        now = time.monotonic()
        while self._shown:
            oldest = next(iter(self._shown.values()))
            if len(self._shown) <= MOST and now - oldest.at < KEPT_SECONDS:
                return
            self._shown.popitem(last=False)


def version_of(document: Mapping[str, Any] | None) -> int | None:
    """As in `Versions`."""
    if document is None:
        return 0
    there = document.get("version")
    return there if isinstance(there, int) else None
