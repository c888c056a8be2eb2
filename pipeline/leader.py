"""One term of leading: change stream -> JetStream, each event exactly once, accounts in order.

Each batch of changes becomes one atomic batch of the stream `balance`. Its first message expects
the stream to end where this leader saw it end: a stale one's batch is rejected whole. Its last
carries the change stream's resume token: the log is its own checkpoint.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final

from pipeline.eventstore import Changes, EventStore, HistoryLost
from pipeline.jetstream import (
    MARKER,
    STREAM,
    TOKEN_HEADER,
    TOKEN_SUBJECT,
    DuplicateMessage,
    JetStream,
    Outgoing,
    StreamState,
    WrongLastSequence,
    ensure_balance_stream,
    subject,
)
from pipeline.outage import Outage
from pipeline.outgoing import outgoing
from pipeline.settings import Settings

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_HEADER_ROOM: Final = 4096


class StandDown(Exception):
    """This forwarder must not go on: whoever leads next begins at the end of the log."""


@dataclass(slots=True)
class Counters:
    """What a forwarder has done: events and atomic batches published, resyncs asked for, batches
    rejected because another one had written, events that can't be forwarded."""

    forwarded: int = 0
    batches: int = 0
    resyncs: int = 0
    fenced: int = 0
    skipped: int = 0


class Leader:
    """Begins at the end of the log and goes on until the first thing that ends its term."""

    def __init__(
        self,
        settings: Settings,
        js: JetStream,
        store: EventStore,
        counters: Counters,
        outage: Outage,
    ) -> None:
        self._settings, self._js, self._store = settings, js, store
        self._counters, self._outage = counters, outage
        self.working = False
        self._partitions = 0
        self._sequence = 0
        """The stream's last sequence, as far as we know."""
        self._token: str | None = None
        """The resume token in the stream's last message."""
        self._published = self._looked = 0.0
        self._seen: StreamState
        self._expiry, self._limited = 0.0, False
        """Seconds that the stream keeps a message (0: for ever); whether old ones may go at all."""

    async def lead(self, lost: asyncio.Event) -> None:
        """Forward until the lease is lost and nothing is in hand, or until anything raises.

        Under load it is not the lease but the log that ends the term: a batch is rejected.
        """
        await self._store.setup()
        self._partitions = await ensure_balance_stream(self._js, self._settings)
        config = (await self._js.api(f"STREAM.INFO.{STREAM}"))["config"]
        self._expiry = config["max_age"] / 1e9
        self._limited = any(config[limit] > 0 for limit in ("max_age", "max_bytes", "max_msgs"))
        await self._read_log()
        log.info("Leading from sequence %d", self._sequence)
        while not lost.is_set():
            try:
                async with self._store.watch(self._token) as batches:
                    await self._forward(batches, lost)
            except HistoryLost as reason:
                log.warning("The change stream can't be resumed: %s", reason)
                self._token = None
        log.warning("The lease is another's now")

    async def _read_log(self) -> None:
        """Learn where the stream ends and the token that is there, if there is one."""
        state, last = await self._js.state(STREAM), await self._js.last_message(STREAM)
        if state is None:
            raise StandDown("the stream is gone")
        self._seen, self._sequence = state, state.last
        self._published = self._looked = time.monotonic()
        if last is None:
            log.warning("The stream is empty")
        elif last.sequence != state.last or TOKEN_HEADER not in last.headers:
            log.warning("The stream does not end with a message of a forwarder")
        else:
            self._token = last.headers[TOKEN_HEADER]

    async def _forward(self, batches: AsyncIterator[Changes], lost: asyncio.Event) -> None:
        async for changes in batches:
            heed_cancellation()
            if self._token is None:
                await self._ask_for_resync(changes.token)
            messages, skipped = outgoing(changes.events, self._partitions, self._room)
            self._counters.skipped += skipped
            if messages:
                await self._publish(messages, changes.token)
                self._counters.forwarded += len(messages)
            elif self._token_is_due(changes.token):
                await self._publish([Outgoing(TOKEN_SUBJECT, b"", {})], changes.token)
            await self._look_at_stream(changes.token)
            self._outage.over()
            self.working = True
            if lost.is_set() and not messages:
                return

    @property
    def _room(self) -> int:
        """The most bytes that a message may have beside its headers."""
        return int(self._js.nc.max_payload) - _HEADER_ROOM

    # ------------------------------------------------------------------ publishing

    async def _publish(self, messages: list[Outgoing], token: str) -> None:
        """One atomic batch, its token in the last message."""
        last = messages[-1]
        messages[-1] = replace(last, headers={**last.headers, TOKEN_HEADER: token})
        try:
            self._sequence = await self._publish_batch(messages)
        except WrongLastSequence:
            self._sequence = await self._own_batch(len(messages), token)
        self._token = token
        self._published = time.monotonic()
        self._counters.batches += 1

    async def _publish_batch(self, messages: list[Outgoing]) -> int:
        """Publish, without the ids if the server believes to hold some of them already.

        It remembers ids for two minutes, even those of messages that were purged, or of events
        that were restored into the store. If the log ends where we expect it to, the batch is
        not in it, and waiting until the ids are forgotten would hold up the bank. If it does
        not, the fence rejects the batch.
        """
        try:
            return await self._js.publish_batch(messages, self._sequence)
        except DuplicateMessage:
            tokens = [{k: v for k, v in m.headers.items() if k == TOKEN_HEADER} for m in messages]
            bare = [replace(m, headers=h) for m, h in zip(messages, tokens, strict=True)]
            sequence = await self._js.publish_batch(bare, self._sequence)
        log.warning("The server remembered ids of a batch that the log had not: sent without ids")
        return sequence

    async def _own_batch(self, size: int, token: str) -> int:
        """The end of the log if it is this very batch, whose answer was lost; else stand down."""
        last = await self._js.last_message(STREAM)
        theirs = last and (last.sequence, last.headers.get(TOKEN_HEADER))
        if last and theirs == (self._sequence + size, token):
            return last.sequence
        self._counters.fenced += 1
        raise StandDown(f"a batch of {size} was rejected, the stream has been written by another")

    async def _ask_for_resync(self, token: str) -> None:
        """A marker to each partition: what came before it is to be read from the store."""
        log.warning("Asking all %d partitions to synchronise from the store", self._partitions)
        await self._publish([Outgoing(subject(p), MARKER) for p in range(self._partitions)], token)
        self._counters.resyncs += 1

    # ------------------------------------------------------------------ when it is quiet

    def _token_is_due(self, token: str) -> bool:
        """Whether the log's token gets old for the oplog, or its last message for the stream."""
        age = time.monotonic() - self._published
        if 0 < self._expiry / 2 < age:
            return True
        return age >= self._settings.token_seconds and token != self._token

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


def heed_cancellation() -> None:
    """Raise CancelledError if this task was cancelled and something has swallowed it.

    `asyncio.wait_for` of Python 3.11 does that when its result comes at the same moment, and
    nats-py waits so for every reply.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _purged(before: StreamState, now: StreamState, *, limited: bool) -> bool:
    """Whether messages went that the stream's limits do not explain.

    Limits take them from the front, and never what was the last one a moment ago.
    """
    expected = before.last if limited else max(before.first, 1)
    return now.first > expected or _holes(now) > _holes(before)


def _holes(state: StreamState) -> int:
    return state.last + 1 - max(state.first, 1) - state.messages
