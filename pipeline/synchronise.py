"""Synchronising a partition: every document of it made to be what the event store says.

The store is walked account by account with constant memory. What is exact already is left alone;
versions decide every race with events that are applied at the same time.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from pipeline.events import Event, slots_of
from pipeline.projection import ERA, Document, fold, sound
from pipeline.tables.balances import Balances, State

CHUNK: Final = 500
IN_FLIGHT: Final = 2


class Replayed(Protocol):
    """What synchronising needs of the event store."""

    def replay(self, slots: Iterable[int]) -> AsyncIterator[list[Event]]: ...


@dataclass(slots=True)
class Progress:
    """How far it is: slots done of how many, and what was read and written so far."""

    slots: int
    done: int = 0
    events: int = 0
    accounts: int = 0
    written: int = 0
    seconds: float = 0.0


async def synchronise(
    partition: int,
    partitions: int,
    store: Replayed,
    balances: Balances,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Bring the whole partition to the store's present state; `progress` is called as it goes.

    Raises `GenerationGone`, the store's errors, and `Unfoldable` where a history has a hole.
    """
    slots = slots_of(partition, partitions)
    report, started = Progress(len(slots)), time.monotonic()
    flying: deque[asyncio.Task[int]] = deque()
    try:
        async for chunk in _chunks(partition, store, slots, report):
            if len(flying) >= IN_FLIGHT:
                report.written += await flying.popleft()
            flying.append(asyncio.create_task(_bring(balances, chunk)))
            report.seconds = time.monotonic() - started
            progress(report)
        while flying:
            report.written += await flying.popleft()
    finally:
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)
    report.done, report.seconds = len(slots), time.monotonic() - started
    progress(report)
    return report


async def _chunks(
    partition: int, store: Replayed, slots: range, report: Progress
) -> AsyncIterator[list[Document]]:
    """The partition's documents as the store has them, `CHUNK` or a few more at a time."""
    chunk: list[Document] = []
    document: Document | None = None
    async with aclosing(store.replay(slots)) as batches:  # type: ignore[type-var]
        async for events in batches:
            for event in events:
                if document is not None and document["id"] != event["account_id"]:
                    chunk.append(document)
                    document = None
                document = fold(document, event, partition)
            report.events += len(events)
            if events:
                report.done = max(0, events[-1]["slot"] - slots.start)
            if len(chunk) >= CHUNK:
                report.accounts += len(chunk)
                yield chunk
                chunk = []
    if document is not None:
        chunk.append(document)
    if chunk:
        report.accounts += len(chunk)
        yield chunk


async def _bring(balances: Balances, documents: list[Document]) -> int:
    """Write those documents that are not there already; how many that were."""
    found = await balances.found([document["id"] for document in documents])
    states = []
    for document in documents:
        there = found.get(document["id"])
        if there is None:
            states.append(State(0, document))
            continue
        era, current = there.version // ERA, there.source
        if not sound(there.version, current):
            states.append(State(era + 1, document))
        elif current["version"] < document["version"]:
            states.append(State(era, document))
        elif current["version"] == document["version"] and current != document:
            states.append(State(era + 1, document))
    await balances.write(states)
    return len(states)
