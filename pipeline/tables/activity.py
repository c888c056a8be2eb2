"""Activity: events and money by kind in tumbling minutes, for the page. A Faust windowed table.

It counts what the worker reads, in the minute the stream got it; after a crash or a rebuild of the
stream it may count an event twice, and whoever shows it says so. Balances are not kept that way:
their truth is the event store.
"""

from collections import Counter
from typing import Any, Final

import faust
import orjson

from pipeline.bridge import Batch
from pipeline.jetstream import RESYNC

WINDOW_SECONDS: Final = 60.0
KEPT_SECONDS: Final = 3600.0


class Activity:
    """The table and its agent. A key is `{partition}:{kind}:{events|money}`.

    The partition is in the key because a table's key belongs to one partition of its source.
    """

    def __init__(self, app: faust.App) -> None:
        self.table = app.Table("activity", default=int).tumbling(
            WINDOW_SECONDS, expires=KEPT_SECONDS
        )

    async def read(self, stream: faust.StreamT[Batch]) -> None:
        """The agent's function: one table write for each kind in a batch."""
        async for event in stream.noack().events():
            if not event.value.stale:
                for name, amount in tally(event.value).items():
                    self.table[f"{event.value.partition}:{name}"] += amount
            event.ack()


def tally(batch: Batch) -> Counter[str]:
    """Events and money of a batch by kind; what is no event of ours is not counted."""
    found: Counter[str] = Counter()
    for _, data in batch.messages:
        event: Any = orjson.loads(data)
        kind = event.get("kind")
        if kind and kind != RESYNC:
            found[f"{kind}:events"] += 1
            found[f"{kind}:money"] += event.get("body", {}).get("money", 0)
    return found
