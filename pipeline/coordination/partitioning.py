"""The number of partitions in force, and the number before it, as the stream has them.

A repartition is a message on a subject of the log (docs/repartition.md). Without such a message,
the stream's metadata has the number.
"""

import logging
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from pipeline.messaging import (
    PARTITIONS_KEY,
    JetStream,
    OutgoingMessage,
    ensure_partitioned,
)
from pipeline.model.events import partition_of, slots_of
from pipeline.model.names import BANK, Names
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

METADATA_KEY: Final = "partitioning"
MOST: Final = 256


@dataclass(frozen=True, slots=True)
class Partitioning:
    """The messages after sequence `at` are in `count` partitions.

    Those up to `at` are in `before` partitions, in force since `before_at`; `last` has the sequence
    of the last message of each of them, 0 for none. In a new stream `at` is 0.
    """

    count: int
    at: int = 0
    before: int | None = None
    before_at: int = 0
    last: tuple[int, ...] = ()

    def same_as(self, other: "Partitioning") -> bool:
        """Whether a partition's number and its checkpoint mean the same in both."""
        return (self.count, self.at) == (other.count, other.at)

    def sources(self, partition: int) -> range:
        """The partitions before that had some of this partition's slots."""
        if self.before is None:
            return range(0)
        slots = slots_of(partition, self.count)
        first, last = (partition_of(slot, self.before) for slot in (slots[0], slots[-1]))
        return range(first, last + 1)

    def followed_by(self, count: int, at: int, last: tuple[int, ...]) -> "Partitioning":
        """The next one: `last` has the last sequence of each of our partitions, 0 for none."""
        return Partitioning(count, at, self.count, self.at, last)

    def message(self, names: Names = BANK) -> OutgoingMessage:
        """The message that puts it in force."""
        return OutgoingMessage(names.partitions_subject, self._encoded())

    def metadata(self) -> dict[str, str]:
        """The stream's metadata for it, which outlives the message: that one may expire."""
        count = {PARTITIONS_KEY: str(self.count)}
        return count | ({METADATA_KEY: self._encoded().decode()} if self.at else {})

    def _encoded(self) -> bytes:
        return orjson.dumps(asdict(self))


async def partitioning(js: JetStream) -> Partitioning | None:
    """The partitioning in force; None without a stream that has one. Creates nothing."""
    stored = await js.last_message(js.names.log, js.names.partitions_subject)
    found = _parsed(stored.data) if stored else None
    if found and stored and found.at <= stored.sequence:
        return found
    config = await js.config(js.names.log) or {}
    metadata: dict[str, str] = config.get("metadata") or {}
    count = metadata.get(PARTITIONS_KEY, "")
    found = _parsed(metadata.get(METADATA_KEY, ""))
    if found and str(found.count) == count:
        return found
    return Partitioning(int(count)) if count.isdecimal() else None


async def ensure_log(js: JetStream, settings: Settings) -> Partitioning:
    """Create the stream of the log unless it exists; return the partitioning in force.

    BANK_PARTITIONS counts for a new stream only.
    """
    made = await ensure_partitioned(
        js,
        js.names.log,
        settings.partitions,
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


def _parsed(data: bytes | str) -> Partitioning | None:
    """A partitioning from a message or the metadata; None if it is invalid: written by hand."""
    try:
        fields: dict[str, Any] = orjson.loads(data)
        found = Partitioning(**{**fields, "last": tuple(fields["last"])})
        valid = all(1 <= count <= MOST for count in (found.count, found.before or 1))
        valid &= all(sequence >= 0 for sequence in (found.at, found.before_at, *found.last))
        return found if valid and len(found.last) == (found.before or 0) else None
    except (ValueError, TypeError, KeyError):
        return None
