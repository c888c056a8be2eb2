"""Nudges: "partition p of P has just been written", for whoever waits for its documents.

Plain NATS messages without content. One may be lost, so nobody relies on them alone.
"""

from contextlib import suppress
from typing import Final

from pipeline.jetstream import JetStream

ALL: Final = "bank.written.*.*"


def nudge_of(partition: int, partitions: int) -> str:
    """The subject of a partition's nudges."""
    return f"bank.written.{partitions}.{partition}"


def nudged(subject: str) -> tuple[int, int]:
    """`nudge_of` turned round: the partition, and of how many. Raises ValueError."""
    *_, partitions, partition = subject.split(".")
    return int(partition), int(partitions)


async def nudge(js: JetStream, partition: int, partitions: int) -> None:
    """Tell that documents of the partition have changed. Never fails."""
    if js.nc.is_connected:
        with suppress(Exception):
            await js.nc.publish(nudge_of(partition, partitions))
