"""JetStream as the bank uses it: the stream `balance`, atomic batches fenced by sequence.

The reader's side, a feed of one partition, is `pipeline/bridge/feed.py`.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import nats
import orjson
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from ulid import ULID

from pipeline.ending import ended
from pipeline.settings import masked

log = logging.getLogger(__name__)

STREAM: Final = "balance"
TOKEN_SUBJECT: Final = "balance.token"
TOKEN_HEADER: Final = "Bank-Resume-Token"
BATCH_HEADER: Final = "Nats-Batch-Id"
RESYNC: Final = "resync"
MARKER: Final = b'{"kind":"resync"}'
PARTITIONS_KEY: Final = "partitions"
OLDEST_SERVER: Final = (2, 14)

_WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
_DUPLICATE_IN_BATCH: Final = 10201
_STREAM_NOT_FOUND: Final = 10059
_NAME_IN_USE: Final = 10058
# A stream being deleted is told of no more while its files still go, and its name can't be taken.
_CANNOT_CREATE: Final = 10049
_DELETING_SECONDS: Final = 10.0
_DELETING_POLL_SECONDS: Final = 0.05
_TIMEOUT: Final = 5.0
_PATIENCE: Final = 3.0


class JetStreamError(Exception):
    """The server refused; `code` is its `err_code`."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code


class WrongLastSequence(JetStreamError):
    """The stream is not where the publisher saw it last: another one has written."""


class DuplicateMessage(JetStreamError):
    """A message id of the batch was stored within the duplicate window."""


class ServerTooOld(Exception):
    """Atomic batches, pinned consumers and consumer reset need nats-server 2.14."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish."""

    subject: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the stream holds it."""

    subject: str
    data: bytes
    headers: dict[str, str]
    sequence: int


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where a stream stands. `created` tells a stream from one of the same name made later."""

    created: str
    first: int
    last: int
    messages: int


def subject(partition: int) -> str:
    """The subject of a partition's events."""
    return f"{STREAM}.{partition}"


class JetStream:
    """One connection that comes back by itself, and the calls the bank needs on it."""

    def __init__(self, nc: Client, closing: asyncio.Event) -> None:
        self.nc, self._closing = nc, closing
        self.context: JetStreamContext = nc.jetstream(timeout=_TIMEOUT)

    @classmethod
    async def connect(cls, url: str, name: str, **options: Any) -> Self:
        """Connect, for ever if need be, or raise `ServerTooOld`. `options` go to `nats.connect`."""
        closing = asyncio.Event()

        async def lost() -> None:
            if not closing.is_set():
                log.warning("NATS: connection lost")

        nc = await nats.connect(
            url,
            name=name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,
            ping_interval=5,
            max_outstanding_pings=2,
            allow_reconnect=True,
            **{
                "error_cb": _quiet,
                "disconnected_cb": lost,
                "reconnected_cb": say_back,
                **options,
            },
        )
        version = nc.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            found = f"{version.major}.{version.minor}.{version.patch}"
            await nc.close()
            raise ServerTooOld(
                f"nats-server at {url} is {found}; the bank needs 2.14 or newer "
                "(atomic batches, pinned consumers, consumer reset)"
            )
        return cls(nc, closing)

    @classmethod
    async def patiently(cls, url: str, name: str, **options: Any) -> Self:
        """`connect`, and say so when that takes long."""
        said = ("NATS at %s does not answer: waiting", masked(url))
        patience = asyncio.get_running_loop().call_later(_PATIENCE, log.warning, *said)
        try:
            return await cls.connect(url, name, **options)
        finally:
            patience.cancel()

    async def close(self) -> None:
        self._closing.set()
        await self.nc.close()
        reconnecting = self.nc._reconnection_task
        if reconnecting is not None:  # its cancellation may have been swallowed (`ended` says how)
            await ended(reconnecting)

    async def ping(self) -> None:
        """Raise unless JetStream answers."""
        await self.api("INFO")

    async def api(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call `$JS.API.{verb}`; a refusal raises `JetStreamError`."""
        payload = orjson.dumps(body) if body is not None else b""
        reply = await self.nc.request(f"$JS.API.{verb}", payload, timeout=_TIMEOUT)
        return checked(orjson.loads(reply.data))

    async def publish_batch(
        self, messages: Sequence[Outgoing], expected: int, batch: str | None = None
    ) -> int:
        """Publish up to 1000 messages that land whole or not at all; return the last sequence.

        `expected` is the stream's last sequence as the caller knows it. Another one raises
        `WrongLastSequence` and nothing lands: that is what fences a stale forwarder. `batch` is
        the id that the stored messages have in their headers.
        """
        batch = batch or str(ULID())
        last = len(messages)
        for number, message in enumerate(messages, 1):
            headers = {
                **message.headers,
                BATCH_HEADER: batch,
                "Nats-Batch-Sequence": str(number),
            }
            if number == 1:
                headers["Nats-Expected-Last-Sequence"] = str(expected)
            if number == last:
                headers["Nats-Batch-Commit"] = "1"
                reply = await self.nc.request(
                    message.subject, message.data, timeout=2 * _TIMEOUT, headers=headers
                )
                return int(checked(orjson.loads(reply.data))["seq"])
            await self.nc.publish(message.subject, message.data, headers=headers)
        raise ValueError("a batch holds at least one message")

    async def last_message(self, stream: str, subject: str | None = None) -> Stored | None:
        """The newest message that still exists, of the whole stream or of one subject.

        A purge leaves the stream's last sequence but no message: then there is None.
        """
        try:
            message = await self.context.get_last_msg(stream, subject or ">")
        except NotFoundError:
            return None
        return Stored(
            message.subject or "",
            message.data or b"",
            dict(message.headers or {}),
            message.seq or 0,
        )

    async def state(self, stream: str) -> StreamState | None:
        """Where the stream stands, or None when there is no such stream."""
        info = await self._info(stream)
        if info is None:
            return None
        state = info["state"]
        return StreamState(
            info["created"], state["first_seq"], state["last_seq"], state["messages"]
        )

    async def config(self, stream: str) -> dict[str, Any] | None:
        """How the stream is configured, or None when there is no such stream."""
        info = await self._info(stream)
        return info and dict(info["config"])

    async def _info(self, stream: str) -> dict[str, Any] | None:
        try:
            return await self.api(f"STREAM.INFO.{stream}")
        except JetStreamError as error:
            if error.code == _STREAM_NOT_FOUND:
                return None
            raise

    async def ensure_stream(
        self,
        name: str,
        subjects: Sequence[str],
        *,
        replicas: int = 1,
        max_age_hours: float = 0,
        metadata: Mapping[str, str] | None = None,
        **config: Any,
    ) -> dict[str, Any]:
        """Make the stream unless it is there; return the config in force, whoever made it."""
        wanted = {
            "name": name,
            "subjects": list(subjects),
            "storage": "file",
            "num_replicas": replicas,
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
            except JetStreamError as error:
                if error.code == _CANNOT_CREATE and time.monotonic() < deadline:
                    await asyncio.sleep(_DELETING_POLL_SECONDS)
                elif error.code != _NAME_IN_USE:
                    raise

    async def ensure_bucket(self, bucket: str, *, replicas: int = 1) -> None:
        """Make a key-value bucket, the kind that NATS clients make, unless it is there."""
        await self.ensure_stream(
            f"KV_{bucket}",
            [f"$KV.{bucket}.>"],
            replicas=replicas,
            max_msgs_per_subject=1,
            discard="new",
            deny_delete=True,
            allow_rollup_hdrs=True,
        )


async def ensure_partitioned(
    js: JetStream, name: str, partitions: int, *, replicas: int = 1, max_age_hours: float = 0
) -> int:
    """Make a stream with subjects `{name}.{p}`; return the number of partitions in force.

    The number is kept in the stream's metadata: what the caller asks for is for a new one only.
    """
    config = await js.ensure_stream(
        name,
        [f"{name}.*"],
        replicas=replicas,
        max_age_hours=max_age_hours,
        metadata={PARTITIONS_KEY: str(partitions)},
        allow_atomic=True,
    )
    return int(config.get("metadata", {}).get(PARTITIONS_KEY, partitions))


def checked(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply of a JetStream call, unless it is an error: that is raised as what it means."""
    error = reply.get("error")
    if not error:
        return reply
    code, text = int(error.get("err_code", error.get("code", 0))), str(error.get("description"))
    if code in _WRONG_LAST_SEQUENCE:
        raise WrongLastSequence(code, text)
    if code == _DUPLICATE_IN_BATCH:
        raise DuplicateMessage(code, text)
    raise JetStreamError(code, text)


async def _quiet(error: Exception) -> None:
    log.debug("NATS: %r", error)


async def say_back() -> None:
    """Log that the connection is back; one who needs to know calls it beside its own work."""
    log.warning("NATS: connected again")
