"""nats-py's client, corrected where the bank needs it, and with a fast path past its queues.

All private parts of nats-py that the bank touches are in this module, so nats-py is pinned exactly.
Each use says what it is for.

The fast path is for readers and publishers of tens of thousands of messages a second. An ordinary
subscription costs a parsed header, an object, a queue and a task switch per message, which is most
of the cost of reading it. The fast path calls the receiver directly from the parser, and publishes
many messages in one write.
"""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from nats import errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from pipeline.support.cancellation import cancel_and_wait

log = logging.getLogger(__name__)

Receive = Callable[[bytes, bytes, bytes], None]
"""Called with a message's reply subject, its data and its header (empty if there is none)."""

_REFUSED: Final = ("authorization violation", "user authentication")

_API: Final = "$JS.API."
_READS: Final = re.compile(
    r"\$JS\.API\.(INFO|STREAM\.MSG\.GET|(STREAM|CONSUMER)\.(INFO|LIST|NAMES))\b"
)
"""What may be asked twice."""
_AGAIN_SECONDS: Final = 1.0
"""After which such a request is sent again, the first time."""
_UNAVAILABLE: Final = re.compile(rb'"err_code":(10006|10008|10009|10076)\b')
"""Of a server without a leader in its cluster, or without JetStream."""
_UNFIT_SECONDS: Final = 10.0
"""Longer than an election takes."""
_LONGEST_UNFIT_SECONDS: Final = 300.0


class FastPath:
    """One subscription. After `unsubscribe`, messages that still arrive are dropped."""

    def __init__(self, subscription: Subscription, receivers: dict[int, Receive]) -> None:
        self._subscription, self._receivers = subscription, receivers

    async def unsubscribe(self) -> None:
        self._receivers.pop(self._subscription._id, None)
        await self._subscription.unsubscribe()


class FastPathClient(Client):
    """A client that never goes on without the TLS it was asked for, outlives a refusal, leaves a
    server whose JetStream is not available, and has the fast path."""

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self._must_be_tls = tls
        self._receivers: dict[int, Receive] = {}
        self._answer_seconds = 0.0
        self._unfit_since: float | None = None
        self._patience = _UNFIT_SECONDS
        self._ps = _Parser(self, self._receivers)

    # ---------------------------------------------------------------- the fast path

    async def subscribe_fast(
        self, subject: str, receive: Receive, status: Callable[[Msg], Awaitable[None]]
    ) -> FastPath:
        """Call `receive` with each message that has a reply subject, `status` with all others.

        Those without one are the server's own status messages; nats-py parses and queues them.
        """
        subscription = await self.subscribe(subject, cb=status)
        self._receivers[subscription._id] = receive
        return FastPath(subscription, self._receivers)

    async def publish_frames(self, frames: Sequence[bytes]) -> None:
        """Publish messages made by `frame` or `plain_frame` in one write.

        Raises what `publish` raises. This repeats the end of nats-py's `publish`, which formats and
        sends one message at a time.
        """
        if self.is_closed:
            raise errors.ConnectionClosedError
        if self.is_draining_pubs:
            raise errors.ConnectionDrainingError
        piece = b"".join(frames)
        if not self.is_connected and len(piece) + self._pending_data_size > self._max_pending_size:
            raise errors.OutboundBufferLimitError
        self.stats["out_msgs"] += len(frames)
        self.stats["out_bytes"] += len(piece)
        await self._send_command(piece)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        """nats-py's parser calls this with each message that `_Parser` has not delivered."""
        receive = self._receivers.get(sid)
        if receive is None or not reply:
            await super()._process_msg(sid, subject, reply, data, headers or b"")
        else:
            _deliver(receive, reply, data, headers or b"")

    # ---------------------------------------------------------------- connecting and closing

    async def request(self, subject: str, *args: Any, **options: Any) -> Msg:
        """nats-py's, which stays connected to a server however long it has no JetStream for us.

        The server may be cut off from its cluster, or be one that the URL's name led to once.
        """
        if not subject.startswith(_API):
            return await super().request(subject, *args, **options)
        try:
            if _READS.match(subject):
                reply = await self._request_until_answered(subject, *args, **options)
            else:
                reply = await super().request(subject, *args, **options)
        except (errors.NoRespondersError, errors.TimeoutError):
            await self._leave_if_unfit()
            raise
        if _UNAVAILABLE.search(reply.data):
            await self._leave_if_unfit()
        else:
            self._unfit_since, self._patience = None, _UNFIT_SECONDS
        return reply

    async def _request_until_answered(
        self, subject: str, payload: bytes = b"", *, timeout: float
    ) -> Msg:
        """Send the request now and then until one is answered: without a leader it gets lost.

        The first answer counts, whichever request it is to. A slow server must not get more and
        more of them, so the pauses double, and the first one is at least twice the time in which
        the last question was answered at its first sending, but no longer than leaves time to ask
        again. Raises what `request` raises.
        """
        began = time.monotonic()
        until = began + timeout
        pause = min(max(_AGAIN_SECONDS, 2 * self._answer_seconds), timeout / 3)
        waiting: set[asyncio.Task[Msg]] = set()
        first: asyncio.Task[Msg] | None = None
        try:
            while (left := until - time.monotonic()) > 0:
                sent = asyncio.create_task(super().request(subject, payload, 2 * timeout))
                first = first or sent
                waiting.add(sent)
                answered, _ = await asyncio.wait(
                    waiting, timeout=min(pause, left), return_when=asyncio.FIRST_COMPLETED
                )
                pause *= 2
                for task in answered:
                    waiting.discard(task)
                    with suppress(errors.TimeoutError):  # the connection was lost meanwhile
                        reply = task.result()
                        if task is first:
                            self._answer_seconds = time.monotonic() - began
                        return reply
            self._answer_seconds = 0.0
            raise errors.TimeoutError
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _leave_if_unfit(self) -> None:
        """Connect anew if no request of the API has worked for some time, longer each time."""
        now = time.monotonic()
        if self._unfit_since is None or not self.is_connected:
            self._unfit_since = now
        elif now - self._unfit_since >= self._patience:
            line = "NATS: no JetStream at this server for %.0f s: connecting anew"
            log.warning(line, now - self._unfit_since)
            self._unfit_since = None
            self._patience = min(2 * self._patience, _LONGEST_UNFIT_SECONDS)
            await self.force_reconnect()

    async def connect(self, *args: Any, **options: Any) -> None:
        """nats-py's, which leaves open what it has when it fails or is cancelled in the midst."""
        try:
            await super().connect(*args, **options)
        except BaseException:
            self._abort()
            self._disconnected_cb = self._closed_cb = None  # nothing was connected
            await self.shut()
            raise

    async def shut(self) -> None:
        """Close the connection for good, whether it is up or just reconnecting.

        Also if it is cancelled meanwhile, as `cancel_and_wait` does again and again: then it is
        aborted, and the rest is done in the background.
        """
        shutting = asyncio.create_task(self._shut())
        try:
            await asyncio.shield(shutting)
        except asyncio.CancelledError:
            self._pending_data_size = 0
            self._abort()
            raise

    async def _shut(self) -> None:
        if not self.is_connected:
            # What is queued can't be sent any more, and `close` would fail to flush it.
            self._pending_data_size = 0
        with suppress(ConnectionError):
            await self.close()
        if self._reconnection_task is not None:
            # `close` cancels it once, which may be swallowed (see `cancel_and_wait`).
            await cancel_and_wait(self._reconnection_task)

    async def _attempt_reconnect(self) -> None:
        """Abort the lost connection first: nats-py waits until the server has read all of it, which
        one that stands still never does. Who waits for an answer on it needn't wait any longer."""
        self._answer_seconds = 0.0  # the next server may be another one
        self._abort()
        for answer in list(self._resp_map.values()):
            if not answer.done():
                answer.set_exception(errors.TimeoutError())
        await super()._attempt_reconnect()

    async def _connect_to_server(self, s: Srv) -> None:
        """Abort the connection of a failed attempt first: nats-py leaves it open."""
        self._abort()
        await super()._connect_to_server(s)

    def _abort(self) -> None:
        if isinstance(self._transport, TcpTransport) and self._transport._io_writer:
            self._transport._io_writer.transport.abort()

    def _connect_command(self) -> bytes:
        """The CONNECT line, which holds our credentials.

        nats-py would send it in the clear if the server offers no TLS.
        """
        if self._must_be_tls and not self._server_info.get("tls_required"):
            raise ssl.SSLError("the server offers no TLS")
        return super()._connect_command()

    async def _process_err(self, err_msg: str) -> None:
        """nats-py closes for good when a connected client is refused; reconnect instead."""
        if any(words in err_msg.lower() for words in _REFUSED):
            await self._process_op_err(errors.AuthorizationError())
        else:
            await super()._process_err(err_msg)


class _Parser(Parser):
    """Delivers whole messages of fast subscriptions from the beginning of what was read."""

    def __init__(self, client: Client, receivers: Mapping[int, Receive]) -> None:
        super().__init__(client)
        self._receivers = receivers

    async def parse(self, data: bytes = b"") -> None:
        if self.state == AWAITING_CONTROL_LINE:
            data, whole = self._deliver_fast(bytes(self.buf) + data)
            self.buf.clear()
            if not whole:
                self.buf.extend(data)
                return
        await super().parse(data)

    def _deliver_fast(self, data: bytes) -> tuple[bytes, bool]:
        """What is left, and False if it is the beginning of one more such message.

        `HMSG <subject> <subscription> <reply> <bytes of header> <bytes>`, then these bytes.
        """
        at = 0
        while data.startswith(b"HMSG ", at):
            line = data.find(b"\r\n", at)
            words = data[at:line].split() if line >= 0 else []
            receive = self._receivers.get(int(words[2])) if len(words) == 6 else None
            if receive is None:
                break
            begin = line + 2
            body, end = begin + int(words[4]), begin + int(words[5])
            if len(data) < end + 2:
                return data[at:], False
            _deliver(receive, words[3], data[body:end], data[begin:body])
            at = end + 2
        return data[at:], True


def _deliver(receive: Receive, reply: bytes, data: bytes, headers: bytes) -> None:
    try:
        receive(reply, data, headers)
    except Exception:  # it would end the task that reads the connection
        log.exception("The receiver of a message failed")


def frame(subject: str, headers: Mapping[str, str], data: bytes) -> bytes:
    """A message as NATS's protocol writes it. `ValueError` for a header of more than one line."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers):
        raise ValueError("a header's value has more than one line")
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    line = f"HPUB {subject} {len(head)} {len(head) + len(data)}\r\n".encode()
    return b"%b%b%b\r\n" % (line, head, data)


def plain_frame(subject: str, data: bytes = b"") -> bytes:
    """A message without headers as NATS's protocol writes it."""
    return b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(data), data)


def header(headers: bytes, name: bytes) -> str | None:
    """The value of one header line, or None."""
    _, found, rest = headers.partition(b"\r\n" + name + b": ")
    return rest[: rest.index(b"\r\n")].decode() if found else None
