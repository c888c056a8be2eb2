"""What is lost in a server while all of them run: keys, streams, consumers, buckets, indexes."""

import asyncio
from typing import Any, Final

from pymongo import MongoClient

from pipeline.coordination import driver
from tests.harness import eventually
from tests.torture.checker.fold import PROJECTIONS
from tests.torture.checker.stores import documents
from tests.torture.faults.base import Fault, Maker
from tests.torture.nodes import api
from tests.torture.servers import OPLOG_ENTRIES

_STREAM: Final = "balance"
_REFILL_SECONDS: Final = 45.0
_PAD: Final = 500


class FlushAll(Fault):
    """Redis forgets every lease."""

    async def begin(self) -> None:
        client = driver.client(self.world.settings.redis, socket_timeout=3)
        try:
            await client.flushall()
        finally:
            await client.aclose()


class StreamPurged(Fault):
    async def begin(self) -> None:
        async with self.world.nats() as client:
            await api(client, f"STREAM.PURGE.{_STREAM}")


class StreamDeleted(Fault):
    async def begin(self) -> None:
        async with self.world.nats() as client:
            await api(client, f"STREAM.DELETE.{_STREAM}")


class MessagesDeleted(Fault):
    """Some of the newest messages are taken out of the stream, one by one."""

    async def begin(self) -> None:
        async with self.world.nats() as client:
            last = (await api(client, f"STREAM.INFO.{_STREAM}"))["state"]["last_seq"]
            for sequence in range(max(1, last - self.chance.randint(1, 20)), last):
                await api(client, f"STREAM.MSG.DELETE.{_STREAM}", {"seq": sequence})


class ConsumerDeleted(Fault):
    """The position of a partition is gone."""

    async def begin(self) -> None:
        async with self.world.nats() as client:
            names = (await api(client, f"CONSUMER.NAMES.{_STREAM}"))["consumers"]
            await api(client, f"CONSUMER.DELETE.{_STREAM}.{self.chance.choice(sorted(names))}")


class BucketDeleted(Fault):
    """Epochs, rebuilds or what is wanted of the bank are gone. Not a list of parked accounts: an
    account that leaves it stays behind on purpose until its next event."""

    async def begin(self) -> None:
        async with self.world.nats() as client:
            names = (await api(client, "STREAM.NAMES"))["streams"]
            buckets = [name for name in names if name.startswith("KV_") and "parked" not in name]
            await api(client, f"STREAM.DELETE.{self.chance.choice(sorted(buckets))}")


class IndexDeleted(Fault):
    """A live generation is deleted by hand. It is healed when all that was there is shown again;
    readers miss accounts until then, and if that is never, to the end."""

    async def begin(self) -> None:
        self._alias = self.chance.choice(sorted(PROJECTIONS))
        self.world.hide()
        self._before = await self._shown()
        _, found = await self.world.ask("GET", f"/_alias/{self._alias}")
        for name in found:
            await self.world.ask("DELETE", f"/{name}")

    async def heal(self) -> None:
        async def refilled() -> bool:
            return self._before <= await self._shown()

        await eventually(refilled, seconds=_REFILL_SECONDS, every=0.3)
        self.world.show()

    async def _shown(self) -> set[str]:
        return set(await documents(self.world.settings.elasticsearch_url, self._alias))


class CheckpointsDeleted(Fault):
    async def begin(self) -> None:
        async def deleted() -> bool:
            status, _ = await self.world.ask("DELETE", "/bank-checkpoints")
            return status < 500

        self.world.lives += 1
        try:
            # Elasticsearch may carry out a request later that timed out: ask until it answers.
            await eventually(deleted, every=0.3)
        finally:
            self.world.lives += 1


class HistoryLost(Fault):
    """The change stream's history is overwritten while no forwarder runs.

    Events are stored meanwhile: nobody can forward them any more.
    """

    async def begin(self) -> None:
        for name in self.world.of("forwarder"):
            await self.world.kill(name)
        await asyncio.to_thread(self._overwrite)

    async def heal(self) -> None:
        for name in self.world.of("forwarder"):
            await self.world.start(name)

    def _overwrite(self) -> None:
        """Fill the oplog with what another collection gets."""
        url, pad = self.world.settings.mongodb_url, "." * _PAD
        with MongoClient[dict[str, Any]](url, directConnection=True, retryWrites=False) as client:
            noise = client["torture"]["noise"]
            for _ in range(OPLOG_ENTRIES // 1000 + 2):
                noise.insert_many([{"pad": pad} for _ in range(1000)])


STORES: Final[dict[str, Maker]] = {
    "flushall": FlushAll,
    "stream-purged": StreamPurged,
    "stream-deleted": StreamDeleted,
    "messages-deleted": MessagesDeleted,
    "consumer-deleted": ConsumerDeleted,
    "bucket-deleted": BucketDeleted,
    "index-deleted": IndexDeleted,
    "checkpoints-deleted": CheckpointsDeleted,
    "history-lost": HistoryLost,
}
