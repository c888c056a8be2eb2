"""Whether the workers are done with what the log holds: how each partition stands.

A partition that several projections read stands where the last of them does.

An ack comes after the checkpoint, so what is acknowledged is in the projection and claimed.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.coordination.partitioning import Partitioning
from pipeline.messaging import STREAM, JetStream, JetStreamError, subject
from pipeline.model.projection import FIRST

_NO_CONSUMER: Final = 10014


@dataclass(frozen=True, slots=True)
class Standing:
    """All of a partition up to `floor` is acknowledged, and `events` are left to apply.

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


async def ends(js: JetStream, now: Partitioning) -> tuple[int, ...]:
    """The last message of each partition, 0 for none."""
    subjects = map(subject, range(now.count))
    found = await asyncio.gather(*(js.last_message(STREAM, each) for each in subjects))
    return tuple(message.sequence if message else 0 for message in found)


async def standings(
    js: JetStream,
    now: Partitioning,
    last: tuple[int, ...],
    partitions: Iterable[int],
    projections: Sequence[str] = (FIRST,),
) -> list[Standing]:
    """How the partitions stand for these projections; `last` is where each ends."""

    async def standing(partition: int) -> Standing:
        found = [_standing(js, now, last[partition], partition, each) for each in projections]
        return min(await asyncio.gather(*found), key=_progress)

    return await asyncio.gather(*map(standing, partitions))


def _progress(standing: Standing) -> tuple[bool, int]:
    return standing.events is not None, standing.floor


async def _standing(
    js: JetStream, now: Partitioning, last: int, partition: int, projection: str
) -> Standing:
    """The ack floor tells, for a consumer hears of new messages a moment later."""
    info = await _consumer(js, f"{projection}-{partition}")
    floor = int(info["ack_floor"]["stream_seq"]) if info else 0
    if floor >= max(last, now.at):
        return Standing(partition, floor, 0)
    if info is None or floor < now.at:
        return Standing(partition, floor, None)
    return Standing(partition, floor, max(1, info["num_pending"] + info["num_ack_pending"]))


async def _consumer(js: JetStream, name: str) -> dict[str, Any] | None:
    try:
        return await js.api(f"CONSUMER.INFO.{STREAM}.{name}")
    except JetStreamError as error:
        if error.code != _NO_CONSUMER:
            raise
        return None
