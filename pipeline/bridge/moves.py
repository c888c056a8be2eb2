"""Moves partitions to and from a running app; only those that move stand still.

Faust's own rebalance, made for Kafka, stops the whole worker. Here its hooks are called for the
difference alone: drain and ack, then revoke, then assign what is new.
"""

import asyncio
import logging
from collections.abc import Iterable, Set

from faust.types import TP
from nats.js.api import DeliverPolicy

from pipeline.bridge import private
from pipeline.bridge.faust_consumer import FaustConsumer
from pipeline.bridge.feed import position_of
from pipeline.messaging.changelog_subjects import key_in

log = logging.getLogger(__name__)

DRAIN_SECONDS = 3.0
_POLL_SECONDS = 0.005
_CHUNK = 500


class Moves:
    """The partitions of one consumer, and how they change."""

    def __init__(self, consumer: FaustConsumer) -> None:
        self.consumer = consumer
        self.assigned: set[TP] = set()
        self._lock = asyncio.Lock()
        self._left = False

    async def assign(self, partitions: Set[int], lost: Set[int]) -> None:
        """Change to that share. `lost` partitions have another owner already: no drain, no ack."""
        async with self._lock:
            if self._left:
                return
            new = self._tps(partitions)
            gone, come = self.assigned - new, new - self.assigned
            if gone:
                await self._release(gone, self._tps(lost))
            private.set_assignment(self.consumer.app, new)
            if come:
                await self._acquire(come)
            private.ready(self.consumer)

    async def leave(self) -> None:
        """Drain, ack and release everything: the app stops."""
        async with self._lock:
            self._left = True
            if self.assigned:
                await self._release(set(self.assigned), set())

    def _tps(self, partitions: Iterable[int]) -> set[TP]:
        return {TP(topic, p) for topic in self.consumer.topics for p in partitions}

    async def _release(self, gone: set[TP], lost: set[TP]) -> None:
        consumer, app = self.consumer, self.consumer.app
        sources = {tp for tp in gone if tp in consumer.feeds}
        # Stop, drain, ack, and only then revoke them in Faust: a pause before the drain makes Faust
        # drop what it has fetched, and the drain never ends.
        for tp in sources:
            await consumer.feeds[tp].leave()
        await self._drain(sources - lost)
        self.assigned -= gone
        for tp in sources:
            consumer.feeds.pop(tp).drop()
        private.revoke(consumer, gone)
        await app.agents.on_rebalance(gone, set())
        await app.on_partitions_revoked.send(gone)

    async def _drain(self, tps: set[TP]) -> None:
        """Wait until the agents have finished what was delivered, and ack it."""
        feeds = [self.consumer.feeds[tp] for tp in tps]
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while any(feed.out for feed in feeds):
                    await self.consumer.commit(tps)
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            log.warning("Not all was done in %.0f s; the next owner does the rest", DRAIN_SECONDS)

    async def _acquire(self, come: set[TP]) -> None:
        consumer, app = self.consumer, self.consumer.app
        await app.agents.on_rebalance(set(), come)
        private.reindex(app, self.assigned | come)
        changelogs = {tp for tp in come if private.is_changelog(app, tp)}
        for tp in sorted(changelogs):
            await recover(consumer.transport, tp)
        await asyncio.gather(*(consumer.open_feed(tp) for tp in come - changelogs))
        self.assigned |= come
        await app.on_partitions_assigned.send(set(self.assigned))


async def recover(transport: private.Wired, tp: TP) -> int:
    """Apply every message of the partition that exists now; return how many there were.

    The stream keeps one message a key, so this is as long as the table, not as its history.
    """
    last = await transport.last_sequence(tp)
    if not last:
        return 0
    table = private.table_of(transport.app, tp)
    subscription = await transport.js.context.subscribe(
        f"{tp.topic}.{tp.partition}.>",
        stream=tp.topic,
        ordered_consumer=True,
        deliver_policy=DeliverPolicy.ALL,
    )
    count, sequence, events = 0, 0, []
    try:
        while sequence < last:
            message = await subscription.next_msg(timeout=10)
            position = position_of(message.reply.encode())
            sequence, count = position.stream, count + 1
            transport.app.producer.note_sequence(message.subject, sequence)
            key = key_in(message.subject)
            raw = private.message(
                transport.app, tp, sequence, position.seconds, key, message.data or None
            )
            events.append(await table.changelog_topic.decode(raw))
            if len(events) >= _CHUNK or sequence >= last:
                table.apply_changelog_batch(events)
                events.clear()
    finally:
        await subscription.unsubscribe()
    return count
