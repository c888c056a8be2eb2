"""The calls of JetStream that the bank makes: atomic batches fenced by sequence, single messages,
the state of streams, and creating them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Self

import orjson
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from ulid import ULID

from pipeline.messaging.connection import Refusals, connected
from pipeline.messaging.fast_path import FastPathClient, frame
from pipeline.messaging.values import (
    BATCH_HEADER,
    JetStreamError,
    OutgoingMessage,
    StorageFull,
    StoredMessage,
    StreamState,
    TooManyReplicas,
    checked,
)
from pipeline.model.names import BANK, Names
from pipeline.support.access import PREFIX, ServerAccess

log = logging.getLogger(__package__)

_STREAM_NOT_FOUND: Final = 10059
_NAME_IN_USE: Final = 10058
_NO_LEADER: Final = 10008
"""The code with which a server refuses what needs a leader."""
# While the files of a deleted stream are being removed, the server no longer lists the stream, but
# refuses to create one of its name.
_CANNOT_CREATE: Final = 10049
_DELETING_SECONDS: Final = 10.0
_DELETING_POLL_SECONDS: Final = 0.05
_EXPECTED_OF_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence"
_TIMEOUT: Final = 5.0
_COMMIT_SECONDS: Final = 4.0
"""As long as the shortest election: what a leader got that died is not waited for any longer."""
_COMMIT_ALONE_SECONDS: Final = 10.0
"""For a server without others, whose disk may be slow."""
_PATIENCE: Final = 3.0
_FULL_SECONDS: Final = 30.0
_PIECE: Final = 250
"""Messages of a batch per write: the server begins with them while the rest is prepared."""


class JetStream:
    """One connection that reconnects by itself, and the calls on it.

    `replicas`: of each stream and bucket that it creates. `names`: of the application.
    """

    def __init__(
        self, nc: FastPathClient, closing: asyncio.Event, replicas: int = 1, names: Names = BANK
    ) -> None:
        self.nc, self._closing, self.replicas, self.names = nc, closing, replicas, names
        self.context: JetStreamContext = nc.jetstream(timeout=_TIMEOUT)
        self._full: tuple[str, float] | None = None

    @classmethod
    async def connect(cls, at: ServerAccess | str, name: str, **options: Any) -> Self:
        """Connect, however long it takes. Raises `ServerTooOld`. `options` are nats-py's."""
        closing = asyncio.Event()
        client, at = await connected(at, name, closing, **options), ServerAccess.of(at)
        return cls(client, closing, at.replicas, at.names)

    @classmethod
    async def patiently(cls, at: ServerAccess | str, name: str, **options: Any) -> Self:
        """`connect`, and log it if that takes long."""
        line = ("NATS at %s does not answer: waiting", ServerAccess.of(at))
        patience = asyncio.get_running_loop().call_later(_PATIENCE, log.warning, *line)
        try:
            return await cls.connect(at, name, **options)
        finally:
            patience.cancel()

    @classmethod
    async def within(cls, seconds: float, at: ServerAccess | str, name: str) -> Self:
        """`connect`, or raise a TimeoutError with the reason."""
        refusals = Refusals(at, silent=True)
        try:
            async with asyncio.timeout(seconds):
                return await cls.connect(at, name, error_cb=refusals.on_error)
        except TimeoutError:
            raise TimeoutError(refusals.last or "no answer in time") from None

    async def close(self) -> None:
        self._closing.set()
        await self.nc.shut()

    @property
    def full(self) -> str:
        """Why JetStream stores nothing: what it answered to our last write, if that was a short
        time ago and a `StorageFull` or `TooManyReplicas`; else "". Who has to write repeats it."""
        if self._full is None or time.monotonic() - self._full[1] > _FULL_SECONDS:
            return ""
        return self._full[0]

    def note_full(self, why: str) -> None:
        """Note that there is no room, of which the server's answer does not tell."""
        self._full = why, time.monotonic()

    async def ping(self) -> None:
        """Raise unless JetStream answers."""
        await self.api("INFO")

    async def api(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call `$JS.API.{verb}`; a refusal raises `JetStreamError`."""
        payload = orjson.dumps(body) if body is not None else b""
        reply = await self.nc.request(f"$JS.API.{verb}", payload, timeout=_TIMEOUT)
        return checked(orjson.loads(reply.data))

    async def publish_batch(
        self, messages: Sequence[OutgoingMessage], expected: int, batch: str | None = None
    ) -> int:
        """Publish up to 1000 messages that land whole or not at all; return the last sequence.

        `expected` is the stream's last sequence as the caller knows it. If it is another one,
        nothing lands and `WrongLastSequence` is raised: that fences a stale forwarder. `batch` is
        the id that the stored messages have in their headers.

        One exception: a server that reaches a limit of its storage within the batch keeps the
        messages before that, and does not answer (`TimeoutError`).
        """
        if not messages:
            raise ValueError("a batch has at least one message")
        batch = batch or str(ULID())
        headers = [
            {**each.headers, BATCH_HEADER: batch, "Nats-Batch-Sequence": str(number)}
            for number, each in enumerate(messages, 1)
        ]
        # The fence on the first message rejects the whole batch. The commit is on the last message,
        # which is a request: its answer is the batch's.
        headers[0]["Nats-Expected-Last-Sequence"] = str(expected)
        headers[-1]["Nats-Batch-Commit"] = "1"
        *rest, last = messages
        frames = [frame(each.subject, headers[i], each.data) for i, each in enumerate(rest)]
        for start in range(0, len(frames), _PIECE):
            await self.nc.publish_frames(frames[start : start + _PIECE])
            await asyncio.sleep(0)
        seconds = _COMMIT_SECONDS if self.replicas > 1 else _COMMIT_ALONE_SECONDS
        return await self._stored(last.subject, last.data, headers[-1], seconds)

    async def publish(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        expected: int | None = None,
        timeout: float = _TIMEOUT,
    ) -> int:
        """Store one message; return its sequence.

        `expected` is the last sequence of its subject as the caller knows it, 0 for none. If it is
        another one, nothing is stored and `WrongLastSequence` is raised. Raises `NoRespondersError`
        if no stream has the subject.
        """
        fence = {} if expected is None else {_EXPECTED_OF_SUBJECT: str(expected)}
        return await self._stored(subject, data, {**(headers or {}), **fence}, timeout)

    async def _stored(
        self, subject: str, data: bytes, headers: dict[str, str], timeout: float
    ) -> int:
        reply = await self.nc.request(subject, data, timeout=timeout, headers=headers)
        try:
            sequence = int(checked(orjson.loads(reply.data))["seq"])
        except StorageFull as error:
            self.note_full(str(error))
            raise
        self._full = None
        return sequence

    async def last_message(self, stream: str, subject: str | None = None) -> StoredMessage | None:
        """The newest message that still exists, of the whole stream or of one subject.

        None if there is none: a purge removes the messages and leaves the last sequence. The
        stream's leader answers; a replica (`DIRECT.GET`) may be a moment behind.
        """
        return await _stored(self.context.get_last_msg(stream, subject or ">"))

    async def message(self, stream: str, sequence: int) -> StoredMessage | None:
        """One message, from the stream's leader; None if it is not there."""
        return await _stored(self.context.get_msg(stream, seq=sequence)) if sequence else None

    async def state(self, stream: str) -> StreamState | None:
        """The state of the stream, or None if there is no such stream."""
        info = await self._info(stream)
        return None if info is None else _state(info)

    async def counted(self, stream: str, subject: str) -> tuple[StreamState, int] | None:
        """The state of the stream and how many messages of that subject it has, at one moment."""
        info = await self._info(stream, {"subjects_filter": subject})
        if info is None:
            return None
        return _state(info), (info["state"].get("subjects") or {}).get(subject, 0)

    async def config(self, stream: str) -> dict[str, Any] | None:
        """The configuration of the stream, or None if there is no such stream."""
        info = await self._info(stream)
        return info and dict(info["config"])

    async def stream_info(
        self, stream: str, wanted: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The stream's configuration and state, from its leader. Raises `JetStreamError`, also
        while no leader is elected: any server with a copy answers then, and may be behind."""
        info = await self.api(f"STREAM.INFO.{stream}", wanted)
        cluster = info.get("cluster") or {}
        if "name" in cluster and not cluster.get("leader"):
            raise JetStreamError(_NO_LEADER, f"{stream} has no leader")
        return info

    async def _info(
        self, stream: str, wanted: Mapping[str, Any] | None = None
    ) -> dict[str, Any] | None:
        try:
            return await self.stream_info(stream, wanted)
        except JetStreamError as error:
            if error.code == _STREAM_NOT_FOUND:
                return None
            raise

    async def ensure_stream(
        self,
        name: str,
        subjects: Sequence[str],
        *,
        max_age_hours: float = 0,
        metadata: Mapping[str, str] | None = None,
        **config: Any,
    ) -> dict[str, Any]:
        """Create the stream unless it exists; return the configuration in force.

        Raises `TooManyReplicas`, which names the setting.
        """
        wanted = {
            "name": name,
            "subjects": list(subjects),
            "storage": "file",
            "num_replicas": self.replicas,
            "max_age": int(max_age_hours * 3600 * 1e9),
            "allow_direct": True,
            "metadata": dict(metadata or {}),
            **config,
        }
        deadline = time.monotonic() + _DELETING_SECONDS
        while True:
            if (there := await self.config(name)) is not None:
                return there
            try:
                return dict((await self.api(f"STREAM.CREATE.{name}", wanted))["config"])
            except TooManyReplicas as error:
                setting = f"{PREFIX}STREAM_REPLICAS is {self.replicas}, which NATS can't do"
                refused = TooManyReplicas(error.code, f"{setting} for {name}: {error.description}")
                self.note_full(str(refused))
                raise refused from error
            except JetStreamError as error:
                if error.code == _CANNOT_CREATE and time.monotonic() < deadline:
                    await asyncio.sleep(_DELETING_POLL_SECONDS)
                elif error.code != _NAME_IN_USE:
                    raise

    async def ensure_bucket(self, bucket: str) -> None:
        """Create a key-value bucket, as NATS clients create them, unless it exists."""
        await self.ensure_stream(
            f"KV_{bucket}",
            [f"$KV.{bucket}.>"],
            max_msgs_per_subject=1,
            discard="new",
            deny_delete=True,
            allow_rollup_hdrs=True,
        )


async def _stored(answer: Awaitable[RawStreamMsg]) -> StoredMessage | None:
    try:
        message = await answer
    except NotFoundError:
        return None
    headers = dict(message.headers or {})
    return StoredMessage(message.subject or "", message.data or b"", headers, message.seq or 0)


def _state(info: Mapping[str, Any]) -> StreamState:
    state = info["state"]
    return StreamState(info["created"], state["first_seq"], state["last_seq"], state["messages"])
