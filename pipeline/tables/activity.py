"""Activity: events and money by kind in tumbling minutes, for the page. A Faust windowed table.

It counts what the worker reads, in the minute when the stream got it. After a crash or a rebuild of
the stream it may count an event twice, and the page says so. Balances are not kept in this way:
they follow from the event store.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

import faust

from pipeline.bridge import Batch
from pipeline.model.events import Event, NoEvent, event_in

WINDOW_SECONDS: Final = 60.0
KEPT_SECONDS: Final = 3600.0
MOST: Final = 2**63 - 1

Turnover = Callable[[Event], tuple[str, int]]
"""The name that an event is counted by, and its money in minor units. Never raises."""


class Activity:
    """The table and its agent. A key is `{partition}:{kind}:{events|money}`.

    The partition is in the key because a table's key belongs to one partition of its source.
    """

    def __init__(self, app: faust.App, turnover: Turnover) -> None:
        self._turnover = turnover
        self.table = app.Table("activity", default=int).tumbling(
            WINDOW_SECONDS, expires=KEPT_SECONDS
        )

    async def read(self, stream: faust.StreamT[Batch]) -> None:
        """The agent's function: one table write for each kind in a batch."""
        async for event in stream.noack().events():
            if not event.value.stale:
                for name, amount in tally(event.value, self._turnover).items():
                    self.table[f"{event.value.partition}:{name}"].apply(added, amount)
            event.ack()


def tally(batch: Batch, turnover: Turnover) -> Counter[str]:
    """Events and money of a batch by kind; what is no event is not counted."""
    found: Counter[str] = Counter()
    for event in batch.read(event_in):
        if not isinstance(event, NoEvent):
            kind, money = turnover(event)
            found[f"{kind}:events"] += 1
            found[f"{kind}:money"] += money
    return found


def added(counted: int, amount: int) -> int:
    """Their sum, up to the largest integer that the changelog's JSON can hold."""
    return min(counted + amount, MOST)
