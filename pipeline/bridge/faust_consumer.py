"""What Faust calls on a consumer besides the flow of data: partitions, positions, seeks."""

from collections.abc import Collection, Mapping
from typing import Any

from faust import Service
from faust.transport import base
from faust.types import TP, ConsumerMessage

from pipeline.bridge.feed import Feed


class FaustConsumer(base.Consumer):
    """Answers from the feeds and the assignment; offsets are stream sequences."""

    feeds: dict[TP, Feed]
    topics: list[str]

    async def seek_after(self, tp: TP, sequence: int | None, *, label: int | None = None) -> int:
        """Read on after `sequence`, or after the ack floor; return that position."""
        raise NotImplementedError

    async def open_feed(self, tp: TP) -> None:
        """Create the partition's feed, and read from its ack floor unless the app will seek."""
        raise NotImplementedError

    def topic_partitions(self, topic: str) -> int | None:
        return int(self.transport.partitions_of(topic)) or None

    def key_partition(self, topic: str, key: bytes, partition: int | None = None) -> int:
        if partition is not None:
            return partition
        return int(self.transport.key_partition(topic, key))

    async def create_topic(self, topic: str, partitions: int, replication: int, **_: Any) -> None:
        await self.transport.create_topic(topic, partitions)

    def highwater(self, tp: TP) -> int:
        feed = self.feeds.get(tp)
        return feed.delivered + 1 if feed else 0

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        return {tp: await self.transport.last_sequence(tp) + 1 for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 1)

    async def position(self, tp: TP) -> int | None:
        feed = self.feeds.get(tp)
        return feed.delivered + 1 if feed else None

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        for tp, offset in partitions.items():
            await self._seek(tp, offset)

    async def _seek(self, partition: TP, offset: int) -> None:
        await self.seek_after(partition, offset - 1)

    async def seek_to_committed(self) -> dict[TP, int]:
        return {tp: await self.seek_after(tp, None) + 1 for tp in list(self.feeds)}

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    @Service.task
    async def _commit_livelock_detector(self) -> None:
        """Nothing: Faust looks for partitions that Kafka has stopped delivering."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        committed: bool = await self.force_commit(set(offsets))
        return committed

    async def _getmany(self, active_partitions: Collection[TP] | None, timeout: float) -> Any:
        raise NotImplementedError("the fetch loop is _drain_messages")

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        raise NotImplementedError("the fetch loop is _drain_messages")
