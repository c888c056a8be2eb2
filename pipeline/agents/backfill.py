"""Backfilling a partition: every document of it made to be what the event store says.

The store is walked account by account with constant memory. What is exact already is left alone;
versions decide every race with events that are applied at the same time.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from pipeline.model.histories import Replayed, histories
from pipeline.model.projection import Advance, Projection

CHUNK: Final = 500
IN_FLIGHT: Final = 2


class Bringing(Protocol):
    """What is needed of the documents: `pipeline.tables.documents.Documents` are some."""

    @property
    def projection(self) -> Projection: ...

    async def bring(self, histories: Sequence[Advance]) -> int: ...


@dataclass(slots=True)
class BackfillProgress:
    """How far it is: slots done of how many, and what was read and written so far."""

    slots: int
    done: int = 0
    events: int = 0
    accounts: int = 0
    written: int = 0
    seconds: float = 0.0


async def backfill(
    slots: range,
    store: Replayed,
    documents: Bringing,
    progress: Callable[[BackfillProgress], None] = lambda _: None,
) -> BackfillProgress:
    """Bring all accounts of the slots to the store's present state; `progress` hears how it goes.

    An account whose history can't be folded is parked. Raises `GenerationGone`, and the errors of
    store and parking lot.
    """
    report, started = BackfillProgress(len(slots)), time.monotonic()
    flying: deque[asyncio.Task[int]] = deque()
    try:
        read = histories(documents.projection, store, slots, CHUNK)
        async with aclosing(read) as chunks:  # type: ignore[type-var]
            async for accounts, events, slot in chunks:
                if len(flying) >= IN_FLIGHT:
                    report.written += await flying.popleft()
                flying.append(asyncio.create_task(documents.bring(accounts)))
                report.accounts += sum(not each.more for each in accounts)
                report.events += events
                report.done, report.seconds = slot - slots.start, time.monotonic() - started
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
