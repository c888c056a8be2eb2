"""The Faust transport: one NATS connection, streams for topics, a partition for a key.

A topic `orders` with P partitions is the stream `orders` with subjects `orders.{p}` and one durable
consumer `orders-{p}` each; the offset is the stream's sequence. A table's changelog is a stream
with subjects `{changelog}.{p}.{key}`, one message kept for each.
"""

import asyncio
import logging
import zlib
from typing import TYPE_CHECKING, Any

from faust.transport import base
from faust.types import TP

from pipeline.bridge import private
from pipeline.bridge.consumer import Consumer
from pipeline.bridge.options import options_of
from pipeline.bridge.producer import Producer
from pipeline.messaging import JetStream, ensure_changelog, ensure_partitioned, log_reconnected
from pipeline.support.retry import Outage

if TYPE_CHECKING:
    import faust

log = logging.getLogger(__name__)

_TIMEOUT = 3.0


class Transport(base.Transport):
    """`faust.App(broker='nats://host:port')` finds it by the entry point `faust.transports`."""

    Consumer = Consumer
    Producer = Producer
    driver_version = "nats-py"
    app: "faust.App"
    js: JetStream

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Faust elects a leader by who gets a topic's only partition; here leases elect.
        self.app.conf.topic_disable_leader = True
        self.consumer: Consumer | None = None
        self._connected = False
        self._connecting = asyncio.Lock()
        self._partitions: dict[str, int] = {}
        self._changelogs: set[str] = set()

    async def connect(self) -> None:
        """Connect once; the consumer and the producer share the connection."""
        async with self._connecting:
            if not self._connected:
                at = options_of(self.app).nats or ",".join(map(str, self.url))
                self.js = await JetStream.patiently(
                    at, name=self.app.conf.id, reconnected_cb=self._reconnected
                )
                self._connected = True

    def full(self) -> str:
        """Why JetStream stores nothing; "" if it does, or while there is no connection yet."""
        return self.js.full if self._connected else ""

    async def close(self) -> None:
        """Close the connection; the app has stopped."""
        if self._connected:
            self._connected = False
            await self.js.close()

    async def create_topic(self, topic: str, partitions: int | None) -> None:
        """Create the topic's stream unless it exists. An existing one decides the partitions.

        Tries until it works: Faust ends an app whose topics can't be made.
        """
        await self.connect()
        if topic not in self._partitions and topic not in self._changelogs:
            outage = Outage(log, f"The stream of {topic}")
            await outage.retry_forever(lambda: self._create(topic, partitions))

    async def _create(self, topic: str, partitions: int | None) -> None:
        options = options_of(self.app)
        wanted = partitions or self.app.conf.topic_partitions
        if private.is_changelog(self.app, TP(topic, 0)):
            await ensure_changelog(self.js, topic)
            self._changelogs.add(topic)
        else:
            self._partitions[topic] = await ensure_partitioned(
                self.js,
                options.stream(topic),
                wanted,
                max_age_hours=options.max_age_hours,
            )

    def partitions_of(self, topic: str) -> int:
        """The partitions in force, or 0 for a topic that is not known yet.

        A table is partitioned as its source, whatever the source's stream has.
        """
        if topic in self._changelogs:
            return max(self._partitions.values(), default=0)
        return self._partitions.get(topic, 0)

    def repartitioned(self, stream: str, partitions: int) -> None:
        """Set a stream's number of partitions, which the app knows better than its metadata."""
        options = options_of(self.app)
        for topic in self._partitions:
            if options.stream(topic) == stream:
                self._partitions[topic] = partitions

    def key_partition(self, topic: str, key: bytes | None) -> int:
        """The partition of a key: CRC-32 modulo the number of partitions."""
        return zlib.crc32(key or b"") % (self.partitions_of(topic) or 1)

    async def last_sequence(self, tp: TP) -> int:
        """The last message of the partition that exists; 0 when there is none."""
        rest = ".>" if private.is_changelog(self.app, tp) else ""
        stream = options_of(self.app).stream(tp.topic)
        last = await self.js.last_message(stream, f"{stream}.{tp.partition}{rest}")
        return last.sequence if last else 0

    async def publish(
        self, subject: str, data: bytes, headers: dict[str, str], expected: int | None
    ) -> int:
        """Store one message; `expected` is the last sequence of its subject. Returns its own."""
        return await self.js.publish(subject, data, headers, expected=expected, timeout=_TIMEOUT)

    async def _reconnected(self) -> None:
        await log_reconnected()
        if self.consumer is not None:
            self.consumer.reconnected()
