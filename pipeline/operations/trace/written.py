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
_CLOCKS_SECONDS: Final = 10.0
"""By so much the clocks of NATS and of a worker may differ."""


class SeenBatch(NamedTuple):
    """A batch of a partition, and when its notification came: seconds since 1970, by our clock."""

    batch: WrittenBatch
    seen: float


_Run = list[SeenBatch]
"""Batches in order of sequence. One that goes back begins another run: it was delivered again, or
the stream was made anew."""


class WrittenBatches:
    """The batches of one projection, by partition. What was written twice counts for the first
    time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._of: defaultdict[int, list[_Run]] = defaultdict(list)
        self._listens_since: float | None = None
        self._dropped_until = dict[int, float]()

    async def listen(self, js: JetStream, projection: Projection) -> None:
        """Note what workers write from now on, as long as the connection lasts."""
        await js.nc.subscribe(notifications_of(projection), cb=self._on_notification)
        self._listens_since = self._clock()

    def complete_since(self, partition: int | None) -> float | None:
        """From when on each batch of the partition is known, as long as the connection lasts;
        seconds since 1970, None: not yet."""
        if self._listens_since is None:
            return None
        dropped = self._dropped_until.get(partition, 0.0) if partition is not None else 0.0
        return max(self._listens_since, self._clock() - KEPT_SECONDS, dropped)

    def note(self, partition: int, partitions: int, batch: WrittenBatch) -> None:
        """A batch has been written just now, of one of so many partitions."""
        runs = self._fresh(partition)
        if not runs or batch.last <= runs[-1][-1].batch.last:
            runs.append([])
        runs[-1].append(SeenBatch(batch, self._clock()))
        if sum(map(len, runs)) > max(1, MOST // partitions):
            self._dropped_until[partition] = runs[0].pop(0).seen

    def of(self, partition: int, sequence: int, stored: float = 0.0) -> SeenBatch | None:
        """The batch with that message of the partition, which the stream had at `stored`, seconds
        since 1970; None if it is not known."""
        for run in self._fresh(partition):
            at = bisect_right(run, sequence, key=lambda each: each.batch.first) - 1
            if at < 0 or sequence > run[at].batch.last:
                continue
            # One that was written before is of an earlier stream, whose sequences are the same.
            if run[at].batch.written >= stored - _CLOCKS_SECONDS:
                return run[at]
        return None

    def _fresh(self, partition: int) -> list[_Run]:
        runs, oldest = self._of[partition], self._clock() - KEPT_SECONDS
        for run in runs:
            del run[: bisect_right(run, oldest, key=lambda each: each.seen)]
        runs[:] = filter(None, runs)
        return runs

    async def _on_notification(self, message: Msg) -> None:
        try:
            partition, partitions = partition_in(message.subject)
        except ValueError:
            return
        if (batch := batch_in(message.data)) is not None and partitions > 0:
            self.note(partition, partitions, batch)
