"""The end of the log, and the one way to write there: atomic batches that expect to land at it.

A batch's first message names the sequence at which its writer saw the stream end. If another one
has written since, the whole batch is rejected, and its writer stands down. Its last message carries
the change stream's resume token: the log is its own checkpoint.
"""

import logging
import time
from dataclasses import dataclass, field, replace
from typing import Final

from ulid import ULID

from pipeline.messaging import (
    BATCH_HEADER,
    STREAM,
    TOKEN_HEADER,
    DuplicateMessage,
    JetStream,
    OutgoingMessage,
    StreamState,
    WrongLastSequence,
)
from pipeline.support.histogram import SECONDS, SIZES, Histogram

log = logging.getLogger(__name__)

_HEADER_ROOM: Final = 4096


class StandDown(Exception):
    """This forwarder must not go on: whoever leads next begins at the end of the log."""


@dataclass(slots=True)
class PublisherCounters:
    """What a forwarder has done: events and atomic batches published, resyncs asked for, batches
    rejected because another one had written, events that can't be forwarded; how many events
    batches had, how long publishing any batch took, and the resume token at the log's end."""

    forwarded: int = 0
    batches: int = 0
    resyncs: int = 0
    fenced: int = 0
    skipped: int = 0
    batch_events: Histogram = field(default_factory=lambda: Histogram(SIZES), repr=False)
    publish_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS), repr=False)
    token: str | None = field(default=None, repr=False)


class StreamPublisher:
    """One term's writer. `sequence` is the stream's last one as far as it knows, `token` the resume
    token there, `published` when it last wrote."""

    def __init__(self, js: JetStream, counters: PublisherCounters) -> None:
        self._js, self._counters = js, counters
        self.sequence = 0
        self.token: str | None = None
        self.published = 0.0
        self._batch = ""

    async def begin(self) -> StreamState:
        """Learn where the stream ends and the token that is there, if there is one."""
        state, last = await self._js.state(STREAM), await self._js.last_message(STREAM)
        if state is None:
            raise StandDown("the stream is gone")
        self.sequence, self.published = state.last, time.monotonic()
        if last is None:
            log.warning("The stream is empty")
        elif last.sequence != state.last or TOKEN_HEADER not in last.headers:
            log.warning("The stream does not end with a message of a forwarder")
        else:
            self.token = last.headers[TOKEN_HEADER]
        self._counters.token = self.token
        return state

    @property
    def room(self) -> int:
        """The most bytes that a message may have beside its headers."""
        return int(self._js.nc.max_payload) - _HEADER_ROOM

    async def publish(self, messages: list[OutgoingMessage], token: str) -> None:
        """One atomic batch, its token in the last message. Raises `StandDown`."""
        last = messages[-1]
        messages = [*messages[:-1], replace(last, headers={**last.headers, TOKEN_HEADER: token})]
        began = time.monotonic()
        try:
            self.sequence = await self._publish(messages)
        except WrongLastSequence:
            self.sequence = await self._landed(len(messages))
        self.token, self.published = token, time.monotonic()
        self._counters.token = token
        self._counters.batches += 1
        self._counters.publish_seconds.observe(self.published - began)

    async def _publish(self, messages: list[OutgoingMessage]) -> int:
        """Publish, without the ids if the server believes to hold some of them already.

        It remembers ids for two minutes, even those of messages that were purged, or of events
        that were restored into the store. If the log ends where we expect it to, the batch is
        not in it, and waiting until the ids are forgotten would hold up the bank. If it does
        not, the fence rejects the batch.
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
        return await self._js.publish_batch(messages, self.sequence, self._batch)

    async def _landed(self, size: int) -> int:
        """The end of the log if it is this very batch, whose answer was lost; else stand down."""
        last = await self._js.last_message(STREAM)
        if last and last.headers.get(BATCH_HEADER) == self._batch:
            return last.sequence
        self._counters.fenced += 1
        raise StandDown(f"a batch of {size} was rejected, the stream has been written by another")
