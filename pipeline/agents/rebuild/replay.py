"""Replaying slots of the event store into a generation being built, beside live traffic.

A slot is begun just before it is read: from then on its live events are written, too. A few bulks
are in flight; the cursor follows what is written.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from pipeline.model.events import Event
from pipeline.model.histories import histories
from pipeline.model.projection import Advance
from pipeline.tables.documents import AccountDocuments
from pipeline.tables.versioned_document import VersionedDocument

# Few and small: live traffic writes to the same Elasticsearch, and its latency comes first.
CHUNK: Final = 250
IN_FLIGHT: Final = 2


class ReplaySource(Protocol):
    """The event store, as far as a replay uses it; see `EventStore.replay`."""

    def replay(
        self, slots: Iterable[int], begin: Callable[[int], None]
    ) -> AsyncIterator[list[Event]]: ...


class Replay:
    """One partition's replay.

    Calls `begin` with each slot below which live events are to be written from now on. `refused`:
    accounts that were parked because Elasticsearch rejects a document.
    """

    def __init__(
        self, store: ReplaySource, documents: AccountDocuments, begin: Callable[[int], None]
    ) -> None:
        self._store, self._documents, self._begin = store, documents, begin
        self.refused: set[str] = set()

    async def run(self, slots: range) -> AsyncGenerator[tuple[int, int], None]:
        """Replay the slots; yields each slot below which everything is written, and how many events
        that took since the one before.

        Raises `GenerationGone`, and the errors of store and parking lot.
        """
        read = histories(self._documents.projection, self, slots, CHUNK)
        in_flight: deque[tuple[asyncio.Task[None], int, int]] = deque()
        try:
            async with aclosing(read) as chunks:  # type: ignore[type-var]
                async for accounts, events, slot in chunks:
                    in_flight.append((asyncio.create_task(self._write(accounts)), slot, events))
                    if len(in_flight) > IN_FLIGHT:
                        yield await _finish_first(in_flight)
            while in_flight:
                yield await _finish_first(in_flight)
            yield slots.stop, 0
        finally:
            for task, *_ in in_flight:
                task.cancel()
            await asyncio.gather(*(task for task, *_ in in_flight), return_exceptions=True)

    def replay(self, slots: Iterable[int]) -> AsyncIterator[list[Event]]:
        """The slots' events; `begin` is called for each slot before it is read."""
        return self._store.replay(slots, self._begin)

    async def _write(self, accounts: Sequence[Advance]) -> None:
        # The generation was empty: a document that is there now was written for a live event, and
        # versions decide. So nothing is read before.
        states = [
            VersionedDocument(0, document) for each in accounts for document in each.documents
        ]
        self.refused |= await self._documents.write(states)
        for each in accounts:
            if each.poison is not None and not each.more:
                await self._documents.park(each.poison)


async def _finish_first(in_flight: deque[tuple[asyncio.Task[None], int, int]]) -> tuple[int, int]:
    task, slot, events = in_flight[0]
    await task
    in_flight.popleft()
    return slot, events
