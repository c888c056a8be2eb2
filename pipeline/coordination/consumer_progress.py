"""How far the workers are with each partition, by their consumers' ack floors.

A partition that several projections read is as far as the slowest of them. An event is acked after
its documents and the checkpoint are written, so what is acked is in the projection.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.coordination.partitioning import Partitioning
from pipeline.messaging import JetStream, JetStreamError

NO_CONSUMER: Final = 10014


@dataclass(frozen=True, slots=True)
class ConsumerProgress:
    """Everything of a partition up to `floor` is acked, and `events` are left to apply.

    None: nobody has read it since the last repartition.
    """

    partition: int
    floor: int
    events: int | None

    @property
    def done(self) -> bool:
        return self.events == 0

    def __str__(self) -> str:
        if self.events is None:
            return f"partition {self.partition} is read by nobody"
        return f"partition {self.partition} has {self.events:,} events to apply"


async def last_sequences(js: JetStream, now: Partitioning) -> tuple[int, ...]:
    """The sequence of the last message of each partition, 0 for none."""
    subjects = map(js.names.subject, range(now.count))
    found = await asyncio.gather(*(js.last_message(js.names.log, each) for each in subjects))
    return tuple(message.sequence if message else 0 for message in found)


async def consumer_progress(
    js: JetStream,
    now: Partitioning,
    last: tuple[int, ...],
    partitions: Iterable[int],
    projections: Sequence[str],
) -> list[ConsumerProgress]:
    """How far the slowest of these projections is with each partition; see `last_sequences`."""

    async def slowest(partition: int) -> ConsumerProgress:
        found = [_progress(js, now, last[partition], partition, each) for each in projections]
        return min(await asyncio.gather(*found), key=_order)

    return await asyncio.gather(*map(slowest, partitions))


def _order(progress: ConsumerProgress) -> tuple[bool, int]:
    return progress.events is not None, progress.floor


async def _progress(
    js: JetStream, now: Partitioning, last: int, partition: int, projection: str
) -> ConsumerProgress:
    info = await _consumer(js, f"{projection}-{partition}")
    floor = int(info["ack_floor"]["stream_seq"]) if info else 0
    # The floor decides, not `num_pending`: a consumer counts new messages a moment late.
    if floor >= max(last, now.at):
        return ConsumerProgress(partition, floor, 0)
    # Below `at` the floor is one of the numbering before the repartition.
    if info is None or floor < now.at:
        return ConsumerProgress(partition, floor, None)
    return ConsumerProgress(partition, floor, max(1, info["num_pending"] + info["num_ack_pending"]))


async def _consumer(js: JetStream, name: str) -> dict[str, Any] | None:
    try:
        return await js.api(f"CONSUMER.INFO.{js.names.log}.{name}")
    except JetStreamError as error:
        if error.code != NO_CONSUMER:
            raise
        return None
