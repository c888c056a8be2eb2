"""A worker's counts of events and documents, for its metrics."""

import time
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Final

from prometheus_client import Histogram

from pipeline.support.metrics import SECONDS, SIZES, histogram

_BATCH_EVENTS: Final = partial(histogram, "bank_worker_batch_events", "Events in a batch", SIZES)
_BATCH_SECONDS: Final = partial(
    histogram,
    "bank_worker_batch_seconds",
    "Time from offering a batch to having written its documents",
    SECONDS,
)


@dataclass(slots=True)
class Counters:
    """`applied`, `duplicates`, `reordered`: events. `gaps`, `unsound`: accounts loaded from the
    store because an event was missing, or their document could not be trusted; `healed` is both.
    `repaired`: accounts whose document somebody wrote by hand. `documents`: written. `parked`:
    accounts; `waiting`: their events, skipped. `unreadable`: messages that are no events, skipped.
    `backfilled`, `reacquired`: partitions. `batch_events`, `batch_seconds`: sizes of batches, and
    the time from offered to written; `batch_at`: the last one's, by the monotonic clock.
    """

    applied: int = 0
    duplicates: int = 0
    reordered: int = 0
    gaps: int = 0
    unsound: int = 0
    repaired: int = 0
    documents: int = 0
    parked: int = 0
    waiting: int = 0
    unreadable: int = 0
    backfilled: int = 0
    reacquired: int = 0
    batch_events: Histogram = field(default_factory=_BATCH_EVENTS, repr=False)
    batch_seconds: Histogram = field(default_factory=_BATCH_SECONDS, repr=False)
    batch_at: float = field(default=-inf, repr=False)

    def batch(self, events: int, seconds: float) -> None:
        """Note a batch that was written."""
        self.batch_events.observe(events)
        self.batch_seconds.observe(seconds)
        self.batch_at = time.monotonic()

    @property
    def healed(self) -> int:
        return self.gaps + self.unsound
