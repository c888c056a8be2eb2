"""One term of leading: change stream -> JetStream, each event exactly once, accounts in order.

Each batch of changes becomes one atomic batch of the log (`writer.py`). Between two batches the
leader may change the number of partitions (`repartitioner.py`).
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

from pipeline.coordination.partitioning import Partitioning, ensure_balance_stream, partitioning
from pipeline.eventstore import Changes, EventStore, HistoryLost
from pipeline.forwarder.repartitioner import Repartitioner
from pipeline.forwarder.stream_publisher import PublisherCounters, StandDown, StreamPublisher
from pipeline.messaging import (
    MARKER,
    STREAM,
    TOKEN_SUBJECT,
    JetStream,
    OutgoingMessage,
    StreamState,
    subject,
)
from pipeline.messaging.event_messages import event_messages
from pipeline.model.events import Event
from pipeline.model.projection_lookup import projections
from pipeline.support.cancellation import heed_cancellation
from pipeline.support.correlation import about
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from pipeline.support.tracing import carrying

__all__ = ["Leader", "PublisherCounters", "StandDown"]

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_LIMITS: Final = ("max_age", "max_bytes", "max_msgs")


class Leader:
    """Begins at the end of the log and goes on until the first thing that ends its term."""

    def __init__(
        self,
        settings: Settings,
        js: JetStream,
        store: EventStore,
        counters: PublisherCounters,
        outage: Outage,
    ) -> None:
        self._settings, self._js, self._store = settings, js, store
        self._counters, self._outage = counters, outage
        self._writer = StreamPublisher(js, counters)
        self._switch = Repartitioner(
            js, self._writer, [each.name for each in projections(settings.projections)]
        )
        self.working = False
        self._now: Partitioning
        self._looked = 0.0
        self._seen: StreamState
        self._expiry, self._limited = 0.0, False
        """Seconds that the stream keeps a message (0: for ever); whether old ones may go at all."""

    async def lead(self, lost: asyncio.Event) -> None:
        """Forward until the lease is lost and nothing is in hand, or until anything raises.

        Under load it is not the lease but the log that ends the term: a batch is rejected.
        """
        await self._store.setup()
        made = await ensure_balance_stream(self._js, self._settings)
        config = await self._js.config(STREAM) or {}
        self._expiry = config.get("max_age", 0) / 1e9
        self._limited = any(config.get(limit, 0) > 0 for limit in _LIMITS)
        self._seen, self._looked = await self._writer.begin(), time.monotonic()
        # Asked after the log's end: if it changes in between, our first batch is rejected.
        self._now = await partitioning(self._js) or made
        await self._switch.tidy(self._now)
        log.info("Leading from sequence %d", self._writer.sequence)
        while not lost.is_set():
            try:
                async with self._store.watch(self._writer.token) as batches:
                    await self._forward(batches, lost)
            except HistoryLost as reason:
                log.warning("The change stream can't be resumed: %s", reason)
                self._writer.token = None
        log.warning("The lease is another's now")

    async def _forward(self, batches: AsyncIterator[Changes], lost: asyncio.Event) -> None:
        async for changes in batches:
            heed_cancellation()
            if self._writer.token is None:
                await self._ask_for_resync(changes.token)
            messages, skipped = event_messages(changes.events, self._now.count, self._writer.room)
            self._counters.skipped += skipped
            if messages:
                with carrying("forward", changes.events, "PRODUCER"):
                    await self._writer.publish(messages, changes.token)
                self._counters.forwarded += len(messages)
                self._counters.batch_events.observe(len(messages))
                self._tell(changes.events, len(messages))
            elif self._token_is_due(changes.token):
                await self._writer.publish([OutgoingMessage(TOKEN_SUBJECT, b"", {})], changes.token)
            await self._look_at_stream(changes.token)
            self._now = await self._switch.look(self._now, changes.token, lost)
            self._outage.over()
            self.working = True
            if lost.is_set() and not messages:
                return

    def _tell(self, events: list[Event], forwarded: int) -> None:
        if log.isEnabledFor(logging.DEBUG):
            said = "Forwarded %d events, up to sequence %d"
            log.debug(said, forwarded, self._writer.sequence, extra=about(events))

    async def _ask_for_resync(self, token: str) -> None:
        """A marker to each partition: what came before it is to be read from the store.

        With the number of partitions in the same batch: the log may have lost that as well.
        """
        count = self._now.count
        log.warning("Asking all %d partitions to backfill from the store", count)
        said = [self._now.message()] if self._now.at else []
        markers = [OutgoingMessage(subject(partition), MARKER) for partition in range(count)]
        await self._writer.publish(said + markers, token)
        self._counters.resyncs += 1

    # ------------------------------------------------------------------ when it is quiet

    def _token_is_due(self, token: str) -> bool:
        """Whether the log's token gets old for the oplog, or its last message for the stream."""
        age = time.monotonic() - self._writer.published
        if 0 < self._expiry / 2 < age:
            return True
        return age >= self._settings.token_seconds and token != self._writer.token

    async def _look_at_stream(self, token: str) -> None:
        """Now and then see that nobody has taken messages out of the stream behind our back."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        state = await self._js.state(STREAM)
        if state is None or state.created != self._seen.created:
            raise StandDown("the stream was deleted")
        if _purged(self._seen, state, limited=self._limited):
            log.warning("Messages were taken out of the stream")
            await self._ask_for_resync(token)
            state = await self._js.state(STREAM) or state
        self._seen, self._looked = state, time.monotonic()


def _purged(before: StreamState, now: StreamState, *, limited: bool) -> bool:
    """Whether messages went that the stream's limits do not explain.

    Limits take them from the front, and never what was the last one a moment ago.
    """
    expected = before.last if limited else max(before.first, 1)
    return now.first > expected or _holes(now) > _holes(before)


def _holes(state: StreamState) -> int:
    return state.last + 1 - max(state.first, 1) - state.messages
