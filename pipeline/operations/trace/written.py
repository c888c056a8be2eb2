"""Which messages of the stream workers have written, and when: what notifications say.

That is kept for some minutes and stored nowhere: what was written while nobody listened is not
known.
"""

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from typing import Final, NamedTuple

from nats.aio.msg import Msg

from pipeline.messaging import JetStream
from pipeline.messaging.notifications import (
    WrittenBatch,
    batch_in,
    notifications_of,
    partition_in,
)
from pipeline.model.projection import Projection

KEPT_SECONDS: Final = 600.0
MOST: Final = 8000
"""Batches of a projection that are kept."""


class SeenBatch(NamedTuple):
    """A batch of a partition, and when its notification came: seconds since 1970, by our clock."""

    batch: WrittenBatch
    seen: float


class WrittenBatches:
    """The batches of one projection, by partition in order of sequence. What was written twice
    counts for the first time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._of: defaultdict[int, list[SeenBatch]] = defaultdict(list)

    async def listen(self, js: JetStream, projection: Projection) -> None:
        """Note what workers write from now on, as long as the connection lasts."""
        await js.nc.subscribe(notifications_of(projection), cb=self._on_notification)

    def note(self, partition: int, partitions: int, batch: WrittenBatch) -> None:
        """A batch has been written just now, of one of so many partitions."""
        known = self._fresh(partition)
        if known and batch.last <= known[-1].batch.last:
            return
        known.append(SeenBatch(batch, self._clock()))
        if len(known) > max(1, MOST // partitions):
            del known[0]

    def of(self, partition: int, sequence: int) -> SeenBatch | None:
        """The batch with that message of the partition; None if it is not known."""
        known = self._fresh(partition)
        at = bisect_right(known, sequence, key=lambda each: each.batch.first) - 1
        found = known[at] if at >= 0 else None
        return found if found and sequence <= found.batch.last else None

    def _fresh(self, partition: int) -> list[SeenBatch]:
        # Where the stream was made anew, its sequences begin again: old batches must not stay.
        known, oldest = self._of[partition], self._clock() - KEPT_SECONDS
        del known[: bisect_right(known, oldest, key=lambda each: each.seen)]
        return known

    async def _on_notification(self, message: Msg) -> None:
        try:
            partition, partitions = partition_in(message.subject)
        except ValueError:
            return
        if (batch := batch_in(message.data)) is not None and partitions > 0:
            self.note(partition, partitions, batch)
