"""The Faust producer over JetStream.

A plain topic's message goes to `{topic}.{p}`. A changelog's goes to `{topic}.{p}.{key}`, of which
the stream keeps the last, and is fenced by the log: it names the sequence of its key that this
worker saw last, so one that woke up late can't overwrite what the partition's next owner wrote.
A deleted key's tombstone expires after a day.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from faust.transport import base
from faust.transport.producer import ProducerBuffer
from faust.types import TP, RecordMetadata
from ulid import ULID

from pipeline.bridge import private
from pipeline.messaging import Refused, StorageFull, WrongLastSequence
from pipeline.messaging.changelog_subjects import decode_key, encode_key
from pipeline.messaging.fast_path import header

log = logging.getLogger(__name__)

KEY_HEADER = "Faust-Key"
MESSAGE_ID = "Nats-Msg-Id"
TOMBSTONE_SECONDS = 24 * 3600
"""For how long a deleted key fences late workers; Kafka's `delete.retention.ms` by default, too."""
_RETRY_SECONDS = 0.2
_FULL_SECONDS = 3.0
_FLUSH_SECONDS = 5.0
_LOOK_SECONDS = 0.1
_TIMEOUT = 3.0


class ChangelogFenced(Exception):
    """A later owner of the partition has written this key."""


def key_of(headers: bytes) -> bytes | None:
    """The key of a plain topic's message; None when its publisher is not Faust."""
    text = header(headers, KEY_HEADER.encode())
    return decode_key(text) if text else None


class _Buffer(ProducerBuffer):
    """Faust's, which is asked for its size for each message of a topic."""

    @property
    def size(self) -> int:
        """Messages that wait; Faust looks up two settings first."""
        return int(self.pending.qsize())


class Producer(base.Producer):
    """Each send is one message that JetStream has stored when its future is done."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.buffer = _Buffer(loop=self.loop, beacon=self.beacon)
        self.buffer.app = self.app
        self._me = str(ULID())
        self._pending: set[asyncio.Future[Any]] = set()
        self._writes: dict[asyncio.Task[None], str] = {}
        """The subject of each."""
        self._full: set[str] = set()
        """Subjects of which a write waits for room."""
        self._newer: dict[str, bytes] = {}
        """The last value that was sent to a changelog's key while a write of it waited for room."""
        self._last_sequences: dict[str, int] = {}
        self._tail: dict[str, asyncio.Future[RecordMetadata]] = {}

    async def on_start(self) -> None:
        await self.transport.connect()
        await super().on_start()

    def send_soon(self, fut: Any) -> None:
        self._pending.add(fut)
        fut.add_done_callback(self._pending.discard)
        super().send_soon(fut)

    async def flush(self) -> bool:
        """Wait for all that was sent, except for what waits for room; False if it takes too long.

        Faust's own flush silently gives up after 0.1 s.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + _FLUSH_SECONDS
        while under_way := self._under_way():
            if clock() > until:
                log.warning("%d messages are not stored yet", len(under_way))
                return False
            # Not longer: a write may find that there is no room meanwhile.
            await asyncio.wait(under_way, timeout=_LOOK_SECONDS)
        return True

    def _under_way(self) -> set[asyncio.Future[Any]]:
        writing = {task for task, subject in self._writes.items() if subject not in self._full}
        # Each of Faust's futures has not been sent yet, or is one of the writes.
        return {*writing} or (self._pending if len(self._pending) > len(self._writes) else set())

    async def on_stop(self) -> None:
        """The last part of the app that needs the connection closes it."""
        for task in list(self._writes):
            task.cancel()
        await self.transport.close()

    def note_sequence(self, subject: str, sequence: int) -> None:
        """Note the last sequence of a changelog key that recovery has read."""
        self._last_sequences[subject] = sequence

    async def send(
        self,
        topic: str,
        key: bytes | str | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> asyncio.Future[RecordMetadata]:
        raw = key.encode() if isinstance(key, str) else key
        if partition is None:
            partition = self.transport.key_partition(topic, raw)
        tp, done = TP(topic, partition), asyncio.get_running_loop().create_future()
        if private.is_changelog(self.app, tp):
            subject = f"{topic}.{partition}.{encode_key(raw or b'')}"
            if subject in self._full:  # the write that waits is followed by one of the last value
                self._newer[subject] = value or b""
                done.set_result(_stored(tp, self._last_sequences.get(subject, 0)))
                return done
            self._newer.pop(subject, None)
            before, self._tail[subject] = self._tail.get(subject), done
            write = self._write_changelog(subject, tp, value or b"", done, before)
        else:
            subject = f"{topic}.{partition}"
            write = self._write_plain(subject, tp, raw, value or b"", done)
        task = asyncio.ensure_future(write)
        self._writes[task] = subject
        task.add_done_callback(self._writes.pop)
        return done

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        return await (await self.send(*args, **kwargs))

    async def _write_plain(
        self,
        subject: str,
        tp: TP,
        key: bytes | None,
        value: bytes,
        done: asyncio.Future[RecordMetadata],
    ) -> None:
        headers = {KEY_HEADER: encode_key(key)} if key else {}
        await _settle(done, tp, self._store(tp.topic, subject, value, headers, fenced=False))

    async def _write_changelog(
        self,
        subject: str,
        tp: TP,
        value: bytes,
        done: asyncio.Future[RecordMetadata],
        before: asyncio.Future[RecordMetadata] | None,
    ) -> None:
        if before is not None and not before.done():  # one at a time for a key, in order
            await asyncio.wait([before])
        await _settle(done, tp, self._store_key(tp.topic, subject, value, done))
        if self._tail.get(subject) is done:
            del self._tail[subject]

    async def _store_key(
        self, topic: str, subject: str, value: bytes, done: asyncio.Future[RecordMetadata]
    ) -> int:
        """Store the value, and then the last one that was sent while this one waited for room."""
        while True:
            headers = {} if value else {"Nats-TTL": str(TOMBSTONE_SECONDS)}
            sequence = await self._store(topic, subject, value, headers, fenced=True)
            self._last_sequences[subject] = sequence
            if not value:  # if the key is written again, the log is read for its last sequence
                self._last_sequences.pop(subject, None)
            if self._tail.get(subject) is not done or subject not in self._newer:
                return sequence
            value = self._newer.pop(subject)

    async def _store(
        self, topic: str, subject: str, value: bytes, headers: dict[str, str], *, fenced: bool
    ) -> int:
        """Publish the message, always with the same id, until it is stored; return its sequence.

        Raises `ChangelogFenced`, and `Refused` if the server refuses it.
        """
        headers = {**headers, MESSAGE_ID: f"{self._me}-{ULID()}"}
        try:
            return await self._publish(topic, subject, value, headers, fenced=fenced)
        finally:
            self._full.discard(subject)

    async def _publish(
        self, topic: str, subject: str, value: bytes, headers: dict[str, str], *, fenced: bool
    ) -> int:
        while True:
            expected = self._last_sequences.get(subject, 0) if fenced else None
            try:
                try:
                    return int(await self.transport.publish(subject, value, headers, expected))
                except WrongLastSequence:
                    own = await self._own_sequence(topic, subject, headers[MESSAGE_ID])
                    if own is not None:
                        return own
            except StorageFull as error:  # it ends when people make room: lose nothing until then
                log.debug("publish %s: %s", subject, error)
                self._full.add(subject)
                await asyncio.sleep(_FULL_SECONDS)
            except (ChangelogFenced, Refused):
                raise
            except Exception as error:
                log.debug("publish %s: %r", subject, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _own_sequence(self, topic: str, subject: str, message_id: str) -> int | None:
        """After a wrong expected sequence: the message's own one, if it is stored.

        The server checks the sequence before the message id, so the subject's last message may be
        this very one, whose answer was lost. None if it is an earlier one of ours, or gone: then
        the next attempt expects the right sequence. Raises `ChangelogFenced` if it is another
        worker's.
        """
        last = await self.transport.js.last_message(topic, subject)
        if last is None:
            self._last_sequences.pop(subject, None)
            return None
        writer = last.headers.get(MESSAGE_ID, "")
        if writer == message_id:
            return int(last.sequence)
        if not writer.startswith(self._me):
            raise ChangelogFenced(subject)
        self._last_sequences[subject] = last.sequence
        return None

    def key_partition(self, topic: str, key: bytes) -> TP:
        return TP(topic, self.transport.key_partition(topic, key))

    def supports_headers(self) -> bool:
        return False

    async def create_topic(self, topic: str, partitions: int, replication: int, **_: Any) -> None:
        await self.transport.create_topic(topic, partitions)


def _stored(tp: TP, sequence: int) -> RecordMetadata:
    return RecordMetadata(tp.topic, tp.partition, tp, sequence, None, None)


async def _settle(
    done: asyncio.Future[RecordMetadata], tp: TP, storing: Coroutine[Any, Any, int]
) -> None:
    try:
        sequence = await storing
    except (ChangelogFenced, Refused) as error:
        done.set_exception(error)
    else:
        done.set_result(_stored(tp, sequence))
