"""Where clients are kept back while a fault needs to know that no command is under way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.harness import eventually

_SECONDS: Final = 15.0
"""Longer than any attempt of a client."""


class Gate:
    """Clients pass one at a time or many; whoever shuts it waits until none is inside."""

    def __init__(self) -> None:
        self._inside = self._shut = 0
        self._open = asyncio.Event()
        self._open.set()

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        await self._open.wait()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def shut(self) -> AsyncIterator[None]:
        """Raises AssertionError if a client does not come out."""
        self._shut += 1
        self._open.clear()
        try:
            await eventually(lambda: not self._inside, seconds=_SECONDS, message="no command")
            yield
        finally:
            self._shut -= 1
            if not self._shut:
                self._open.set()
