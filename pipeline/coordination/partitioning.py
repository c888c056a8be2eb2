"""The number of partitions in force, as the log says it, and what it followed.

A repartition is a message on `balance.partitions` (docs/repartition.md). While the log holds none,
the stream's metadata tells.
"""

import logging
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from pipeline.messaging import (
    PARTITIONS_KEY,
    STREAM,
    JetStream,
    OutgoingMessage,
    ensure_partitioned,
)
from pipeline.model.events import partition_of, slots_of
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

SUBJECT: Final = f"{STREAM}.partitions"
METADATA_KEY: Final = "partitioning"
MOST: Final = 256


@dataclass(frozen=True, slots=True)
class Partitioning:
    """What the log holds after sequence `at` is in `count` partitions.

    Until then it was in `before` partitions, which had begun at `before_at` and of which each ended
    with the message that `last` says. A new log's `at` is 0.
    """

    count: int
    at: int = 0
    before: int | None = None
    before_at: int = 0
    last: tuple[int, ...] = ()

    def same_as(self, other: "Partitioning") -> bool:
        """Whether a partition of the one is that partition of the other, and a claim holds."""
        return (self.count, self.at) == (other.count, other.at)

    def sources(self, partition: int) -> range:
        """The partitions before that held some of the partition's slots."""
        if self.before is None:
            return range(0)
        slots = slots_of(partition, self.count)
        first, last = (partition_of(slot, self.before) for slot in (slots[0], slots[-1]))
        return range(first, last + 1)

    def followed_by(self, count: int, at: int, last: tuple[int, ...]) -> "Partitioning":
        """The next one: `last` has the last message of each of our partitions, 0 for none."""
        return Partitioning(count, at, self.count, self.at, last)

    def message(self) -> OutgoingMessage:
        """What the log says of it."""
        return OutgoingMessage(SUBJECT, orjson.dumps(asdict(self)))

    def metadata(self) -> dict[str, str]:
        """What the stream's metadata says of it, for when the log has lost the message."""
        said = {PARTITIONS_KEY: str(self.count)}
        return said | ({METADATA_KEY: self.message().data.decode()} if self.at else {})


async def partitioning(js: JetStream) -> Partitioning | None:
    """The partitioning in force; None without a stream that tells. Creates nothing."""
    stored = await js.last_message(STREAM, SUBJECT)
    said = _said(stored.data) if stored else None
    if said and stored and said.at <= stored.sequence:
        return said
    config = await js.config(STREAM) or {}
    metadata: dict[str, str] = config.get("metadata") or {}
    count = metadata.get(PARTITIONS_KEY, "")
    said = _said(metadata.get(METADATA_KEY, ""))
    if said and str(said.count) == count:
        return said
    return Partitioning(int(count)) if count.isdecimal() else None


async def ensure_balance_stream(js: JetStream, settings: Settings) -> Partitioning:
    """Make the stream `balance` unless it is there; return the partitioning in force.

    BANK_PARTITIONS is for a new stream only.
    """
    made = await ensure_partitioned(
        js,
        STREAM,
        settings.partitions,
        replicas=settings.stream_replicas,
        max_age_hours=settings.stream_max_age_hours,
    )
    found = await partitioning(js) or Partitioning(made)
    if found.count != settings.partitions:
        log.warning(
            "BANK_PARTITIONS is %d but the bank has %d, which is used",
            settings.partitions,
            found.count,
        )
    return found


def _said(data: bytes | str) -> Partitioning | None:
    """What a message or the metadata says; None if somebody wrote it by hand and wrote it wrong."""
    try:
        said: dict[str, Any] = orjson.loads(data)
        found = Partitioning(**{**said, "last": tuple(said["last"])})
        sound = all(1 <= count <= MOST for count in (found.count, found.before or 1))
        sound &= all(place >= 0 for place in (found.at, found.before_at, *found.last))
        return found if sound and len(found.last) == (found.before or 0) else None
    except (ValueError, TypeError, KeyError):
        return None
