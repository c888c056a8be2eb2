"""Backfilling slots of a generation from the event store, account by account, in constant memory.

Documents that are right already are not written. Versions decide every race with events that are
applied at the same time.
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


class Restorable(Protocol):
    """The documents to backfill; see `AccountDocuments.restore`."""

    @property
    def projection(self) -> Projection: ...

    async def restore(self, histories: Sequence[Advance]) -> int: ...


@dataclass(slots=True)
class BackfillProgress:
    """Slots done of how many, and what was read and written so far."""

    slots: int
    done: int = 0
    events: int = 0
    accounts: int = 0
    written: int = 0
    seconds: float = 0.0


async def backfill(
    slots: range,
    store: Replayed,
    documents: Restorable,
    progress: Callable[[BackfillProgress], None] = lambda _: None,
) -> BackfillProgress:
    """Bring all accounts of the slots to the store's present state, and report `progress`.

    An account whose history can't be folded is parked. Raises `GenerationGone`, and the errors of
    store and parking lot.
    """
    report, started = BackfillProgress(len(slots)), time.monotonic()
    # A few writes are in flight while the next accounts are read; more would only fill memory.
    flying: deque[asyncio.Task[int]] = deque()
    try:
        read = histories(documents.projection, store, slots, CHUNK)
        async with aclosing(read) as chunks:  # type: ignore[type-var]
            async for accounts, events, slot in chunks:
                if len(flying) >= IN_FLIGHT:
                    report.written += await flying.popleft()
                flying.append(asyncio.create_task(documents.restore(accounts)))
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
