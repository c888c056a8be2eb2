"""Reads that last, such as streams and waits: each ends when the key that opened it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from api.http.problems import Problem
from api.security.keyring import Keyring
from pipeline.operations.keys import Key
from pipeline.support.cancellation import running

EVERY: Final = 0.25
"""Seconds between two looks at the keys of what is open. With those of the keyring's own it ends
within a second."""


@dataclass(eq=False, slots=True)
class _OpenRead:
    key: Key
    scope: asyncio.Timeout
    problem: Problem | None = None


class OpenReads:
    """Those of one service."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._open: set[_OpenRead] = set()

    @asynccontextmanager
    async def while_valid(self, key: Key) -> AsyncIterator[None]:
        """End the block with the problem when the key is revoked, expires or changes."""
        scope = asyncio.timeout(None)
        read = _OpenRead(key, scope)
        try:
            async with scope:
                self._open.add(read)
                try:
                    yield
                finally:
                    self._open.discard(read)
        except TimeoutError:
            if read.problem is None:
                raise
            raise read.problem from None

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """End within the block what must not go on."""
        async with running(self._watch()):
            yield

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            for read in list(self._open):
                self._check(read)

    def _check(self, read: _OpenRead) -> None:
        try:
            self._keyring.require(read.key)
        except Problem as problem:
            read.problem = problem
            self._open.discard(read)
            read.scope.reschedule(asyncio.get_running_loop().time())
