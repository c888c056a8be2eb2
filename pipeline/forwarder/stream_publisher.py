"""Publishes atomic batches at the end of the log, fenced by the stream itself.

A batch's first message carries the last sequence that the publisher knows. If another one has
published since, the whole batch is rejected, and this publisher stands down. The last message
carries the change stream's resume token, so the stream is its own checkpoint: token and events
can't disagree.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import orjson
from nats.aio.msg import Msg
from prometheus_client import Histogram
from ulid import ULID

from pipeline.messaging import (
    BATCH_HEADER,
    MESSAGE_ID,
    TOKEN_HEADER,
    DuplicateMessage,
    JetStream,
    OutgoingMessage,
    StoredMessage,
    StreamState,
    WrongLastSequence,
)
from pipeline.support.metrics import SECONDS, SIZES, histogram

log = logging.getLogger(__name__)

NEW_LEADER: Final = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED"
"""Published with the stream when a server of a cluster begins to lead it."""
_HEADER_ROOM: Final = 4096


class StandDown(Exception):
    """This forwarder must not go on: the next leader begins at the end of the log."""


class LandedInPart(Exception):
    """JetStream reached a limit of its storage within a batch, of which it keeps a part."""


_BATCH_EVENTS: Final = partial(histogram, "bank_forwarder_batch_events", "Events in a batch", SIZES)
_PUBLISH_SECONDS: Final = partial(
    histogram,
    "bank_forwarder_publish_seconds",
    "Time from publishing a batch to its acknowledgement by JetStream",
    SECONDS,
)


@dataclass(slots=True)
class PublisherCounters:
    """What a forwarder has done.

    `forwarded`: events, `batches`: atomic batches published, `resyncs`: times that it asked for a
    backfill, `fenced`: batches rejected because another forwarder had published, `skipped`: invalid
    documents. `batch_events`: sizes of batches, `publish_seconds`: how long each took, `token`: the
    resume token at the end of the log.
    """

    forwarded: int = 0
    batches: int = 0
    resyncs: int = 0
    fenced: int = 0
    skipped: int = 0
    batch_events: Histogram = field(default_factory=_BATCH_EVENTS, repr=False)
    publish_seconds: Histogram = field(default_factory=_PUBLISH_SECONDS, repr=False)
    token: str | None = field(default=None, repr=False)


class StreamPublisher:
    """The publisher of one leadership.

    `sequence` is the stream's last one as it knows it, `token` the resume token there, `published`
    when it last published, by the monotonic clock.
    """

    def __init__(self, js: JetStream, counters: PublisherCounters) -> None:
        self._js, self._counters = js, counters
        self._stream = js.names.log
        self.sequence = 0
        self.token: str | None = None
        self.published = 0.0
        self._batch = ""
        self._answer: asyncio.Timeout | None = None
        """Of the batch under way: when its answer is not waited for any longer."""
        self._landed: set[str] = set()
        """Ids of events after `token` that are in the stream: of a batch that landed in part."""
        self._part = 0

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Wait for no answer of a leader that is one no more, while the block runs."""
        subject = f"{NEW_LEADER}.{self._stream}"
        subscription = await self._js.nc.subscribe(subject, cb=self._on_new_leader)
        try:
            yield
        finally:
            with suppress(Exception):  # the connection is closed
                await subscription.unsubscribe()

    async def _on_new_leader(self, _: Msg) -> None:
        if self._answer is not None:
            with suppress(RuntimeError):  # it has come
                self._answer.reschedule(0)

    async def begin(self) -> StreamState:
        """Read the last sequence of the stream, and the resume token there.

        `token` stays None if the stream is empty, or does not end with a forwarder's batch: then
        the leader asks for a backfill.
        """
        # The state before the message: if another one publishes in between, `sequence` is too low
        # and our first batch is rejected.
        state, last = await self._js.state(self._stream), await self._js.last_message(self._stream)
        if state is None:
            raise StandDown("the stream is gone")
        self.sequence, self.published = state.last, time.monotonic()
        if last is None:
            log.warning("The stream is empty")
        elif last.sequence != state.last:
            log.warning("The stream does not end with a message of a forwarder")
        else:
            await self._resume_before(last)
        self._counters.token = self.token
        return state

    async def _resume_before(self, last: StoredMessage) -> None:
        """Find the last batch that landed whole; the events after it are there, but not the token.

        A server that reaches a limit of its storage keeps a part of a batch (`publish_batch`).
        """
        landed: set[str] = set()
        message: StoredMessage | None = last
        while message and TOKEN_HEADER not in message.headers:
            event_id = _event_id(message)
            if BATCH_HEADER not in message.headers or event_id is None:
                message = None  # a stranger's, or a marker: who knows which partitions have one
            else:
                landed.add(event_id)
                message = await self._js.message(self._stream, message.sequence - 1)
        if message is None:
            log.warning("The stream does not end with a message of a forwarder")
            return
        self.token, self._landed = message.headers[TOKEN_HEADER], landed
        self._part = len(landed)

    def without_landed(self, messages: list[OutgoingMessage]) -> list[OutgoingMessage]:
        """The messages, but for those of the batch that landed in part."""
        if not self._landed:
            return messages
        found = self._landed & {each.headers.get(MESSAGE_ID, "") for each in messages}
        self._landed -= found
        return [each for each in messages if each.headers.get(MESSAGE_ID, "") not in found]

    @property
    def completing(self) -> bool:
        """Whether events of a batch that landed in part are still to come: publish only events.

        A token among them would let the next leader publish those after it again.
        """
        return bool(self._landed)

    def forget(self) -> None:
        """The changes after `token` are lost."""
        self.token, self._landed, self._part = None, set(), 0

    @property
    def room(self) -> int:
        """The most bytes that a message may have besides its headers."""
        return int(self._js.nc.max_payload) - _HEADER_ROOM

    async def publish(self, messages: list[OutgoingMessage], token: str) -> None:
        """Publish one atomic batch, its resume token in the last message.

        Raises `StandDown` and `LandedInPart`.
        """
        last = messages[-1]
        messages = [*messages[:-1], replace(last, headers={**last.headers, TOKEN_HEADER: token})]
        began = time.monotonic()
        try:
            self.sequence = await self._publish(messages)
        except WrongLastSequence:
            # The server compares sequences before it looks for known ids, so this is also its
            # answer if the batch itself has landed.
            self.sequence = await self._sequence_if_own(len(messages))
        self.token, self.published = token, time.monotonic()
        if self._part:
            log.warning("A batch had landed in part, %d events: the rest is there now", self._part)
            self._part = 0
        self._counters.token = token
        self._counters.batches += 1
        self._counters.publish_seconds.observe(self.published - began)

    async def _publish(self, messages: list[OutgoingMessage]) -> int:
        """Publish, without the message ids if the server remembers some of them.

        It remembers ids for two minutes, also of messages that were purged, and of events that were
        restored into the store; waiting that long would stop the bank. Without ids nothing is
        published twice: if the log ends where we expect, the batch is not in it; if not, the
        expected sequence rejects the batch.
        """
        try:
            return await self._send(messages)
        except DuplicateMessage:
            tokens = [{k: v for k, v in m.headers.items() if k == TOKEN_HEADER} for m in messages]
            bare = [replace(m, headers=h) for m, h in zip(messages, tokens, strict=True)]
            sequence = await self._send(bare)
        log.warning("The server remembered ids of a batch that the log had not: sent without ids")
        return sequence

    async def _send(self, messages: list[OutgoingMessage]) -> int:
        self._batch = str(ULID())
        try:
            async with asyncio.timeout(None) as self._answer:
                return await self._js.publish_batch(messages, self.sequence, self._batch)
        except TimeoutError as error:
            last = await self._js.last_message(self._stream)
            if last is None or not self._is_own(last) or TOKEN_HEADER in last.headers:
                raise
            why = f"no room: {last.sequence - self.sequence} of {len(messages)} messages landed"
            self._js.note_full(why)
            raise LandedInPart(why) from error

    def _is_own(self, message: StoredMessage) -> bool:
        """Whether it is of the batch that was sent last."""
        return message.headers.get(BATCH_HEADER) == self._batch

    async def _sequence_if_own(self, size: int) -> int:
        """The last sequence, if the last message is of this batch, whose answer was lost.

        Else another forwarder has published: raises `StandDown`.
        """
        last = await self._js.last_message(self._stream)
        if last and self._is_own(last) and TOKEN_HEADER in last.headers:
            return last.sequence
        self._counters.fenced += 1
        raise StandDown(f"a batch of {size} was rejected, the stream has been written by another")


def _event_id(message: StoredMessage) -> str | None:
    """The id of a message's event; None if it is no event. Its headers may lack it (`_publish`)."""
    try:
        found = orjson.loads(message.data)["_id"]
    except (ValueError, TypeError, LookupError):
        return None
    return found if isinstance(found, str) else None
