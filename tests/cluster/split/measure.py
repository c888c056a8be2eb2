"""Where one log ends on this machine, and what a second one beside it gives.

    python -m tests.cluster.split.measure [ROUNDS]

Publishes atomic batches of 1000 events into new streams on files, in turns: a bare publisher, which
writes frames that were made before onto a socket, and the forwarder's `StreamPublisher`; into a
stream of one server, of three (R3), and two at once, each in a process of its own, into two
streams. Prints messages a second (the median of the rounds, the lowest and the highest) and the
processor time of the servers and of the publishers.
"""

import asyncio
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.history import History
from benchmarks.machine import cpu_seconds, load
from benchmarks.rounds import interleaved
from benchmarks.stream import BATCH, batches, messages_of
from pipeline.embedded.servers import EmbeddedServers, Server
from pipeline.forwarder.stream_publisher import PublisherCounters, StreamPublisher
from pipeline.messaging import TOKEN_HEADER, JetStream, OutgoingMessage
from pipeline.messaging.fast_path import frame
from pipeline.messaging.streams import ensure_partitioned
from pipeline.model.names import BANK
from pipeline.support.access import ServerAccess
from tests.cluster.nats import nats_cluster
from tests.conftest import placed
from tests.names import STREAM

EVENTS: Final = 20_000
ROUNDS: Final = 7
PARTITIONS: Final = 8
TOKEN: Final = "t" * 300
INBOX: Final = b"_INBOX.measure"
STREAMS: Final = (STREAM, "balance-a", "balance-b")
BEGIN_SECONDS: Final = 0.3
"""In which a publisher connects: all begin at one moment."""


class Times(NamedTuple):
    """When it began and ended, by the monotonic clock, and its processor seconds."""

    began: float
    ended: float
    cpu: float


Publish = Callable[[str, str, float], Times]
"""Publishes to a server, into a stream that is there and empty, from a moment on."""


def prepare() -> None:
    """Make in this process all that it will publish."""
    logging.disable()  # each publisher says that its stream is empty
    for stream in STREAMS:
        blobs(stream)


@cache
def messages(stream: str) -> list[OutgoingMessage]:
    """The same events for each stream, as the forwarder makes messages of them."""
    found = messages_of(History(2_000).next(EVENTS), PARTITIONS)
    prefix = len(STREAM)
    return [OutgoingMessage(stream + m.subject[prefix:], m.data, m.headers) for m in found]


@cache
def blobs(stream: str) -> list[bytes]:
    """Each batch as the server is sent it. A new stream's sequences are known before."""
    return list(_blobs(stream))


def _blobs(stream: str) -> Iterator[bytes]:
    for number, batch in enumerate(batches(messages(stream))):
        headers = [
            {**each.headers, "Nats-Batch-Id": f"b{number}", "Nats-Batch-Sequence": str(at)}
            for at, each in enumerate(batch, 1)
        ]
        headers[0]["Nats-Expected-Last-Sequence"] = str(number * BATCH)
        headers[-1] |= {"Nats-Batch-Commit": "1", TOKEN_HEADER: TOKEN}
        frames = [frame(m.subject, h, m.data) for m, h in zip(batch, headers, strict=True)]
        verb, subject, rest = frames[-1].split(b" ", 2)
        frames[-1] = b" ".join((verb, subject, INBOX, rest))
        yield b"".join(frames)


# ------------------------------------------------------------------ in a process of its own


def bare(url: str, stream: str, at: float) -> Times:
    """One batch after the other, each once the one before is answered."""
    return asyncio.run(_bare(url, blobs(stream), at, ahead=0))


def bare_ahead(url: str, stream: str, at: float) -> Times:
    """The next batch is on its way while one is answered: as much as the server takes."""
    return asyncio.run(_bare(url, blobs(stream), at, ahead=1))


async def _bare(url: str, pieces: Sequence[bytes], at: float, ahead: int) -> Times:
    host, _, port = url.rpartition("/")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**20)
    await reader.readline()
    connect = b'CONNECT {"verbose":false,"headers":true,"no_responders":true,"lang":"x"}\r\n'
    writer.write(connect + b"SUB %b 1\r\nPING\r\n" % INBOX)
    while await reader.readline() != b"PONG\r\n":
        pass
    began, cpu = await _begun(at)
    for number, piece in enumerate(pieces):
        writer.write(piece)
        await writer.drain()
        if number >= ahead:
            await _stored(reader)
    for _ in range(ahead):
        await _stored(reader)
    times = Times(began, time.monotonic(), time.process_time() - cpu)
    writer.close()
    return times


async def _begun(at: float) -> tuple[float, float]:
    """Wait for the moment; the times then."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    return time.monotonic(), time.process_time()


async def _stored(reader: asyncio.StreamReader) -> None:
    while not (line := await reader.readline()).startswith((b"MSG", b"HMSG")):
        if line.startswith(b"-ERR"):
            raise RuntimeError(line.decode())
    answer = await reader.readexactly(int(line.split()[-1]) + 2)
    if b'"seq"' not in answer:
        raise RuntimeError(answer.decode())


def publisher(url: str, stream: str, at: float) -> Times:
    """The forwarder's, without reading changes and encoding events."""
    return asyncio.run(_publisher(url, stream, at))


async def _publisher(url: str, stream: str, at: float) -> Times:
    names = replace(BANK, log=stream)
    js = await JetStream.connect(ServerAccess(url, names=names), "measure")
    try:
        own = StreamPublisher(js, PublisherCounters())
        await own.begin()
        work = [list(each) for each in batches(messages(stream))]
        began, cpu = await _begun(at)
        for batch in work:
            await own.publish(batch, TOKEN)
        return Times(began, time.monotonic(), time.process_time() - cpu)
    finally:
        await js.close()


# ------------------------------------------------------------------ the rounds


@dataclass(frozen=True)
class Taken:
    """Messages a second of all streams, and processor seconds for a message: of all servers, and
    of its publisher."""

    rate: float
    servers: float
    client: float


@dataclass
class Round:
    """Publishes with `publish` into new streams, each on one of the clusters, all at once."""

    pool: ProcessPoolExecutor
    publish: Publish
    streams: Sequence[tuple[Sequence[Server], str]]
    replicas: int = 1

    async def __call__(self) -> Taken:
        places = [await self._made(servers, stream) for servers, stream in self.streams]
        loop = asyncio.get_running_loop()
        servers = {each.pid: each for servers, _ in self.streams for each in servers}
        before = sum(map(cpu_seconds, servers))
        at = time.monotonic() + BEGIN_SECONDS
        times = await asyncio.gather(
            *(loop.run_in_executor(self.pool, self.publish, *place, at) for place in places)
        )
        cpu = sum(map(cpu_seconds, servers)) - before
        total = EVENTS * len(places)
        took = max(each.ended for each in times) - min(each.began for each in times)
        return Taken(total / took, cpu / total, sum(each.cpu for each in times) / total)

    async def _made(self, servers: Sequence[Server], stream: str) -> tuple[str, str]:
        """A new stream; its leader's URL, and its name."""
        at = ServerAccess(servers[0].url, replicas=self.replicas)
        js = await JetStream.connect(at, "measure")
        try:
            if await js.state(stream) is not None:
                await js.api(f"STREAM.DELETE.{stream}")
            await ensure_partitioned(js, stream, PARTITIONS)
            leader = (await js.api(f"STREAM.INFO.{stream}")).get("cluster", {}).get("leader")
            urls = [each.url for each in servers if each.name == leader]
            return (urls or [servers[0].url])[0], stream
        finally:
            await js.close()


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bank-measure-") as name:
        folder = Path(name)
        pool = ProcessPoolExecutor(2, get_context("spawn"), prepare)
        lone = [EmbeddedServers(placed(folder / each), ["nats"]) for each in ("a", "b")]
        try:
            async with nats_cluster(folder / "three") as three:
                for each in lone:
                    await each.start()
                one, other = (list(each.servers.values()) for each in lone)
                await measured(pool, one, other, list(three.servers.values()))
        finally:
            for each in lone:
                await each.stop()
            pool.shutdown()


async def measured(
    pool: ProcessPoolExecutor, one: list[Server], other: list[Server], three: list[Server]
) -> None:
    def rounds(publish: Publish) -> dict[str, Callable[[], Awaitable[Taken]]]:
        return {
            "one server": Round(pool, publish, [(one, STREAM)]),
            "two servers, a stream each": Round(pool, publish, [(one, STREAM), (other, STREAM)]),
            "R3": Round(pool, publish, [(three, STREAM)], 3),
            "R3, two streams": Round(pool, publish, [(three, each) for each in STREAMS[1:]], 3),
        }

    work = {
        f"{publish.__name__}: {where}": each
        for publish in (bare, bare_ahead, publisher)
        for where, each in rounds(publish).items()
    }
    before, number = load(), int(sys.argv[1]) if sys.argv[1:] else ROUNDS
    found = await interleaved(work, number)
    print(f"{os.cpu_count()} cores, load average {before} before and {load()} after")
    print(f"{EVENTS} events a stream and round, {number} rounds, batches of {BATCH}")
    for name, taken in found.items():
        rates = [each.rate for each in taken]
        servers = statistics.median(each.servers for each in taken) * 1e6
        client = statistics.median(each.client for each in taken) * 1e6
        middle, low, high = statistics.median(rates), min(rates), max(rates)
        spread = f"{middle:9,.0f}/s ({low:,.0f} to {high:,.0f})"
        print(f"{name:40} {spread:32} µs each: servers {servers:.1f}, publisher {client:.1f}")


if __name__ == "__main__":
    asyncio.run(main())
