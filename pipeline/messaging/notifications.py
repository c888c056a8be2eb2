"""Notifications: "partition p of P has just been written", for readers who wait for its documents.

They are plain NATS messages without content. One may be lost, so a reader also polls.
"""

from contextlib import suppress

from pipeline.messaging import JetStream
from pipeline.messaging.fast_path import plain_frame
from pipeline.model.projection import Projection


def notifications_of(projection: Projection) -> str:
    """The subject of all notifications of a projection, with wildcards."""
    return f"{_beginning(projection)}.*.*"


def partition_in(subject: str) -> tuple[int, int]:
    """The partition that a notification is about, and of how many. Raises ValueError."""
    *_, partitions, partition = subject.split(".")
    return int(partition), int(partitions)


async def notify(js: JetStream, projection: Projection, partition: int, partitions: int) -> None:
    """Publish that documents of the partition have changed. Never fails."""
    if js.nc.is_connected:
        with suppress(Exception):
            subject = f"{_beginning(projection)}.{partitions}.{partition}"
            await js.nc.publish_frames([plain_frame(subject)])


def _beginning(projection: Projection) -> str:
    return projection.names.written(projection.name)
