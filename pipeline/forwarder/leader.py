"""One leadership: change stream -> JetStream, each event exactly once, each account's in order.

Each batch of changes becomes one atomic batch of the log (`stream_publisher.py`). Between two
batches the leader may change the number of partitions (`repartitioner.py`).
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

from pipeline.coordination.partitioning import Partitioning, ensure_log, partitioning
from pipeline.eventstore import Changes, EventStore, HistoryLost, StoreUnguarded
from pipeline.forwarder.repartitioner import Repartitioner
from pipeline.forwarder.stream_publisher import PublisherCounters, StandDown, StreamPublisher
from pipeline.messaging import (
    MARKER,
    JetStream,
    OutgoingMessage,
    StreamState,
)
from pipeline.messaging.event_messages import event_messages
from pipeline.model.events import Event
from pipeline.support.cancellation import raise_if_cancelled
from pipeline.support.correlation import about
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from pipeline.support.tracing import carrying

log = logging.getLogger(__name__)

_CHECK_SECONDS: Final = 0.9
"""A little less than a quiet change stream takes for an answer: each answer has a check."""
_LIMITS: Final = ("max_age", "max_bytes", "max_msgs")


class Leader:
    """Begins at the end of the log and goes on until the lease is lost or anything fails."""

    def __init__(
        self,
        settings: Settings,
        js: JetStream,
        store: EventStore,
        counters: PublisherCounters,
        outage: Outage,
    ) -> None:
        self._settings, self._js, self._store = settings, js, store
        self._names = js.names
        self._counters, self._outage = counters, outage
        self._publisher = StreamPublisher(js, counters)
        self._repartitioner = Repartitioner(
            js, self._publisher, [each.name for each in settings.kept]
        )
        self.working = False
        self._now: Partitioning
        self._checked = 0.0
        self._state: StreamState
        self._expiry, self._limited = 0.0, False
        """Seconds that the stream keeps a message (0: for ever); whether old ones may go at all."""

    async def lead(self, lost: asyncio.Event) -> None:
        """Forward until the lease is lost and no change waits, or until anything raises.

        Under load it is not the lease but the log that ends a leadership: a batch is rejected.
        """
        await self._build_indexes()
        made = await ensure_log(self._js, self._settings)
        config = await self._js.config(self._names.log) or {}
        self._expiry = config.get("max_age", 0) / 1e9
        self._limited = any(config.get(limit, 0) > 0 for limit in _LIMITS)
        self._state, self._checked = await self._publisher.begin(), time.monotonic()
        # Read after the log's end: if the number changes in between, our first batch is rejected.
        self._now = await partitioning(self._js) or made
        await self._repartitioner.tidy(self._now)
        log.info("Leading from sequence %d", self._publisher.sequence)
        async with self._repartitioner.following(), self._publisher.following():
            while not lost.is_set():
                try:
                    async with self._store.watch(self._publisher.token) as batches:
                        await self._forward(batches, lost)
                except HistoryLost as reason:
                    log.warning("The change stream can't be resumed: %s", reason)
                    self._publisher.forget()
                    # The collection may be a new one, which nobody has given its indexes yet.
                    await self._build_indexes()
        log.warning("Another forwarder has the lease now")

    async def _build_indexes(self) -> None:
        """Build them if that is possible. What is stored is forwarded in any case."""
        try:
            await self._store.setup()
        except StoreUnguarded as faults:
            log.warning("Forwarding without a guard of the event store: %s", faults)

    async def _forward(self, batches: AsyncIterator[Changes], lost: asyncio.Event) -> None:
        first = True  # its answer may be empty although changes wait: it proves nothing
        async for changes in batches:
            raise_if_cancelled()
            if self._publisher.token is None:
                # Before the first events: what was stored before the markers comes from the store,
                # what comes after them comes through the stream.
                await self._ask_for_resync(changes.token)
            messages, skipped = event_messages(
                changes.events, self._now.count, self._publisher.room, self._names
            )
            self._counters.skipped += skipped
            left = self._publisher.without_landed(messages)
            if messages and not left:
                continue  # nothing was published, so it is not known that it works
            messages, completing = left, self._publisher.completing
            if messages:
                with carrying("forward", changes.events, "PRODUCER"):
                    await self._publisher.publish(messages, changes.token)
                self._counters.forwarded += len(messages)
                self._counters.batch_events.observe(len(messages))
                self._log_forwarded(changes.events, len(messages))
            elif not completing and self._token_is_due(changes.token):
                await self._publisher.publish(
                    [OutgoingMessage(self._names.token_subject, b"", {})], changes.token
                )
            if not completing:
                await self._check_stream(changes.token)
                self._now = await self._repartitioner.step(self._now, changes.token, lost)
            if messages or not first:
                self._outage.over()
                self.working = True
            first = False
            if lost.is_set() and not messages:
                return

    def _log_forwarded(self, events: list[Event], forwarded: int) -> None:
        if log.isEnabledFor(logging.DEBUG):
            line = "Forwarded %d events, up to sequence %d"
            log.debug(line, forwarded, self._publisher.sequence, extra=about(events))

    async def _ask_for_resync(self, token: str) -> None:
        """Publish a marker to each partition: a worker reads what came before it from the store.

        The number of partitions is in the same batch, because the log may have lost that as well.
        """
        count = self._now.count
        number = [self._now.message(self._names)] if self._now.at else []
        markers = [
            OutgoingMessage(self._names.subject(partition), MARKER) for partition in range(count)
        ]
        await self._publisher.publish(number + markers, token)
        self._counters.resyncs += 1
        log.warning("Asked all %d partitions to backfill from the store", count)

    # ------------------------------------------------------------------ when it is quiet

    def _token_is_due(self, token: str) -> bool:
        """Whether the log's token gets too old for the oplog, or its message for the stream."""
        age = time.monotonic() - self._publisher.published
        if 0 < self._expiry / 2 < age:
            return True
        return age >= self._settings.token_seconds and token != self._publisher.token

    async def _check_stream(self, token: str) -> None:
        """About once a second: whether somebody has deleted the stream, or messages of it."""
        if time.monotonic() - self._checked < _CHECK_SECONDS:
            return
        state = await self._js.state(self._names.log)
        if state is None or state.created != self._state.created:
            raise StandDown("the stream was deleted")
        if _purged(self._state, state, limited=self._limited):
            log.warning("Messages were removed from the stream")
            await self._ask_for_resync(token)
            state = await self._js.state(self._names.log) or state
        self._state, self._checked = state, time.monotonic()


def _purged(before: StreamState, now: StreamState, *, limited: bool) -> bool:
    """Whether messages are gone that the stream's limits do not explain.

    Limits remove messages from the front, and never the one that was the last a second ago.
    """
    expected = before.last if limited else max(before.first, 1)
    return now.first > expected or _holes(now) > _holes(before)


def _holes(state: StreamState) -> int:
    return state.last + 1 - max(state.first, 1) - state.messages
