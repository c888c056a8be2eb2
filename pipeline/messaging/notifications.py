"""Nudges: "partition p of P has just been written", for whoever waits for its documents.

Plain NATS messages without content. One may be lost, so nobody relies on them alone.
"""

from contextlib import suppress

from pipeline.messaging import JetStream
from pipeline.model.projection import Projection


def all_of(projection: Projection) -> str:
    """The subject of all nudges of a projection."""
    return f"bank.written.{projection.name}.*.*"


def nudge_of(projection: Projection, partition: int, partitions: int) -> str:
    """The subject of a partition's nudges."""
    return f"bank.written.{projection.name}.{partitions}.{partition}"


def nudged(subject: str) -> tuple[int, int]:
    """`nudge_of` turned round: the partition, and of how many. Raises ValueError."""
    *_, partitions, partition = subject.split(".")
    return int(partition), int(partitions)


async def notify(js: JetStream, projection: Projection, partition: int, partitions: int) -> None:
    """Tell that documents of the partition have changed. Never fails."""
    if js.nc.is_connected:
        with suppress(Exception):
            await js.nc.publish(nudge_of(projection, partition, partitions))
