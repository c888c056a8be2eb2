"""Notifications: "partition p of P has just been written", for readers who wait for its documents.

They are plain NATS messages. The content says which messages of the stream were written and when,
for whoever measures that. One may be lost, so a reader also polls.
"""

from contextlib import suppress
from typing import Annotated, Final, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from pipeline.messaging import JetStream
from pipeline.messaging.fast_path import plain_frame
from pipeline.model.projection import Projection

_Time = Annotated[float, Field(ge=0, le=2**40)]


class WrittenBatch(NamedTuple):
    """What a worker has written at once: the partition's messages from sequence `first` to `last`.

    `delivered` and `written`: when it began to apply them, and when the documents were written, in
    seconds since 1970 by its clock.
    """

    first: int
    last: int
    delivered: _Time
    written: _Time


_CHECKED: Final = TypeAdapter(WrittenBatch)


def notifications_of(projection: Projection) -> str:
    """The subject of all notifications of a projection, with wildcards."""
    return f"{_beginning(projection)}.*.*"


def partition_in(subject: str) -> tuple[int, int]:
    """The partition that a notification is about, and of how many. Raises ValueError."""
    *_, partitions, partition = subject.split(".")
    return int(partition), int(partitions)


def batch_in(data: bytes) -> WrittenBatch | None:
    """What a notification says of the batch; None: nothing."""
    try:
        return _CHECKED.validate_json(data)
    except ValidationError:
        return None


async def notify(
    js: JetStream, projection: Projection, partition: int, partitions: int, batch: WrittenBatch
) -> None:
    """Publish that documents of the partition have changed. Never fails."""
    if js.nc.is_connected:
        with suppress(Exception):
            subject = f"{_beginning(projection)}.{partitions}.{partition}"
            content = b"[%d,%d,%.4f,%.4f]" % batch
            await js.nc.publish_frames([plain_frame(subject, content)])


def _beginning(projection: Projection) -> str:
    return projection.names.written(projection.name)
