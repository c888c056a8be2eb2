"""Replaying slots of the event store into a generation being built, beside live traffic.

Slots are begun as they are about to be read: from then on live events of theirs are written, too.
A few bulks are in flight; the cursor follows what is written.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from pipeline.model.events import Event
from pipeline.model.histories import histories
from pipeline.model.projection import Advance
from pipeline.tables.documents import AccountDocuments
from pipeline.tables.versioned_document import VersionedDocument

CHUNK: Final = 250
IN_FLIGHT: Final = 2


class ReplaySource(Protocol):
    """What is needed of the event store; see `EventStore.replay`."""

    def replay(
        self, slots: Iterable[int], begin: Callable[[int], None]
    ) -> AsyncIterator[list[Event]]: ...


class Replay:
    """One partition's replay. `reached` hears of each slot below which all is written, and of how
    many events that took; `begin` of each slot up to which live events are to be written.
    `refused` are accounts that were parked because Elasticsearch would not have a document."""

    def __init__(
        self,
        store: ReplaySource,
        documents: AccountDocuments,
        begin: Callable[[int], None],
        reached: Callable[[int, int], Awaitable[None]],
    ) -> None:
        self._store, self._documents = store, documents
        self._begin, self._reached = begin, reached
        self.refused: set[str] = set()
        self._flying: deque[tuple[asyncio.Task[None] | None, int, int]] = deque()

    async def run(self, slots: range) -> None:
        """Replay the slots. Raises `GenerationGone`, and the errors of store and parking lot."""
        read = histories(self._documents.projection, self, slots, CHUNK)
        try:
            async with aclosing(read) as chunks:  # type: ignore[type-var]
                async for accounts, events, slot in chunks:
                    await self._fly(asyncio.create_task(self._write(accounts)), slot, events)
            await self._fly(None, slots.stop, 0)
            while self._flying:
                await self._land()
        finally:
            tasks = [task for task, *_ in self._flying if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def replay(self, slots: Iterable[int]) -> AsyncIterator[list[Event]]:
        """The slots' events, each slot begun before it is read."""
        return self._store.replay(slots, self._begin)

    async def _fly(self, task: asyncio.Task[None] | None, upto: int, events: int) -> None:
        self._flying.append((task, upto, events))
        while len(self._flying) > IN_FLIGHT:
            await self._land()

    async def _land(self) -> None:
        task, upto, events = self._flying[0]
        if task is not None:
            await task
        self._flying.popleft()
        await self._reached(upto, events)

    async def _write(self, accounts: Sequence[Advance]) -> None:
        """Nothing was there: what is now is a live event's, and its version decides."""
        states = [
            VersionedDocument(0, document) for each in accounts for document in each.documents
        ]
        self.refused |= await self._documents.write(states)
        for each in accounts:
            if each.poison is not None and not each.more:
                await self._documents.park(each.poison)
