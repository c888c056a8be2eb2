"""A batched Faust app in the test's own loop, whose assignment the test drives."""

import asyncio
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faust
from faust.types import TP

from pipeline.bridge import Assign, Batch, BatchSchema, Options, Transport, configure
from pipeline.messaging import JetStream
from tests.harness import eventually

TOPIC = "readings"
PARTITIONS = 4


class Driven:
    """An assignment by hand: the test calls `assign`; what the bridge asks is noted."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.refused: list[int] = []
        self.mine: set[int] = set()
        self._assign: Assign | None = None

    async def run(self, assign: Assign, partitions: int) -> None:
        self._assign = assign
        self.ready.set()
        await asyncio.Event().wait()

    async def owns(self, partition: int) -> bool:
        return partition in self.mine

    def lost(self, partition: int) -> None:
        self.refused.append(partition)

    async def assign(self, partitions: Set[int], lost: Set[int] = frozenset()) -> None:
        await self.ready.wait()
        assert self._assign is not None
        self.mine = set(partitions)
        await self._assign(partitions, lost)


class Reader:
    """An app that notes every message of its batches and acks while its gate is open."""

    def __init__(self, url: str, name: str, folder: Path, **options: Any) -> None:
        self.assignment = Driven()
        self.read: list[tuple[int, int]] = []
        self.batches: list[Batch] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.app = faust.App(
            name,
            broker=url,
            store="memory://",
            topic_partitions=PARTITIONS,
            web_enabled=False,
            datadir=folder / name,
            broker_commit_interval=0.05,
        )
        configure(self.app, Options(assignment=self.assignment, lease_seconds=2, **options))
        topic = self.app.topic(TOPIC, schema=BatchSchema())
        self.agent = self.app.agent(topic)(self._read)

    async def _read(self, stream: faust.StreamT[Batch]) -> None:
        async for event in stream.noack().events():
            await self.gate.wait()
            batch = event.value
            self.batches.append(batch)
            self.read += [(batch.partition, int(data)) for _, data in batch.messages]
            event.ack()

    @property
    def consumer(self) -> Any:
        return self.app.consumer

    @property
    def transport(self) -> Transport:
        transport: Transport = self.app.transport
        return transport

    def of(self, partition: int) -> list[int]:
        return [number for p, number in self.read if p == partition]

    async def has(self, count: int) -> None:
        """Wait until that many messages were read."""
        await eventually(lambda: len(self.read) >= count, seconds=60)

    async def seek(self, partition: int, sequence: int | None) -> int:
        position: int = await self.consumer.seek_after(TP(TOPIC, partition), sequence)
        return position


@asynccontextmanager
async def running(reader: Reader, partitions: Set[int]) -> AsyncIterator[Reader]:
    """The app, started, with that share."""
    starting = asyncio.ensure_future(reader.app.start())  # it waits for the first assignment
    try:
        await reader.assignment.assign(partitions)
        await starting
        yield reader
    finally:
        reader.gate.set()
        await reader.app.stop()


async def publish(js: JetStream, numbers: range) -> None:
    """Number n goes to partition n modulo PARTITIONS."""
    for number in numbers:
        await js.nc.publish(f"{TOPIC}.{number % PARTITIONS}", str(number).encode())
    await js.nc.flush()


async def floor(js: JetStream, partition: int) -> int:
    """The last sequence that the partition's consumer has acked."""
    info = await js.api(f"CONSUMER.INFO.{TOPIC}.{TOPIC}-{partition}")
    return int(info["ack_floor"]["stream_seq"])
