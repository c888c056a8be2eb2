"""Activity: events and money by kind in tumbling minutes, for the page. A Faust windowed table.

It counts what the worker reads, in the minute when the stream got it. After a crash or a rebuild of
the stream it may count an event twice, and the page says so. Balances are not kept in this way:
they follow from the event store.
"""

from collections import Counter
from typing import Final

import faust

from pipeline.application import Turnover
from pipeline.bridge import Batch, Feed, writing_tables
from pipeline.model.events import NoEvent, event_in
from pipeline.tables.activity_reader import TABLE

WINDOW_SECONDS: Final = 60.0
KEPT_SECONDS: Final = 3600.0
MOST: Final = 2**63 - 1

_Key = tuple[Feed, int, float]


class Activity:
    """The table and what is counted for it. A key is `{partition}:{kind}:{events|money}`.

    The partition is in the key because a table's key belongs to one partition of its source.

    What is read is added up in memory, and written with each commit. A crash loses what was added
    and not written, but none of it was acked in JetStream, so the next owner reads it again.
    """

    def __init__(self, app: faust.App, turnover: Turnover) -> None:
        self._turnover = turnover
        self.table = app.Table(TABLE, default=int).tumbling(WINDOW_SECONDS, expires=KEPT_SECONDS)
        self._unwritten: dict[_Key, tuple[faust.EventT[Batch], Counter[str]]] = {}
        """By feed, its seeks and minute: the first event, and what is not written yet."""

    def note(self, event: faust.EventT[Batch]) -> None:
        """Add up a delivery, before it is acked in Faust."""
        batch = event.value
        if not batch.stale:
            minute = event.message.timestamp // WINDOW_SECONDS
            key = batch.feed, batch.seeks, minute
            if (found := self._unwritten.get(key)) is None:
                found = self._unwritten[key] = event, Counter()
            tally(batch, self._turnover, found[1])

    def write(self) -> None:
        """Write what was read into the table; before it is acked in JetStream.

        What is stale is dropped: it is read again, here or by the partition's next owner.
        """
        while self._unwritten:
            _, (event, sums) = self._unwritten.popitem()
            if not event.value.stale:
                with writing_tables(event):
                    for name, amount in sums.items():
                        self.table[f"{event.value.partition}:{name}"].apply(added, amount, event)


def tally(batch: Batch, turnover: Turnover, sums: Counter[str]) -> None:
    """Add a batch's events and money by kind; what is no event is not counted."""
    for event in batch.read(event_in):
        if not isinstance(event, NoEvent):
            kind, money = turnover(event)
            sums[f"{kind}:events"] += 1
            sums[f"{kind}:money"] += money


def added(counted: int, amount: int) -> int:
    """Their sum, up to the largest integer that the changelog's JSON can hold."""
    return min(counted + amount, MOST)
