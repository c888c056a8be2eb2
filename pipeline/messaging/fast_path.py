"""A NATS client with a way past its queues, for who reads tens of thousands of messages a second.

An ordinary subscription costs a parsed header, an object, a queue and a task's turn for each
message: most of what reading it costs. What comes by the straight way is handed over as it
came, by a plain call; and what is published the straight way is written in one piece. All else is
left to nats-py, of which this touches a client's parser `_ps`, its `_process_msg`, what it does at
the end of `publish`, and a subscription's `_id`.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

log = logging.getLogger(__name__)

Receive = Callable[[bytes, bytes, bytes], None]
"""Called with a message's reply subject, its data and its header, which is empty if it has none."""


class FastPath:
    """One subscription; what came by it before it ended is not handed over afterwards."""

    def __init__(self, subscription: Subscription, ways: dict[int, Receive]) -> None:
        self._subscription, self._ways = subscription, ways

    async def unsubscribe(self) -> None:
        self._ways.pop(self._subscription._id, None)
        await self._subscription.unsubscribe()


class FastPathClient(Client):
    """A client that also has `subscribe_straight`."""

    def __init__(self) -> None:
        super().__init__()
        self._ways: dict[int, Receive] = {}
        self._ps = _Parser(self, self._ways)

    async def subscribe_straight(
        self, subject: str, receive: Receive, status: Callable[[Msg], Awaitable[None]]
    ) -> FastPath:
        """Have messages that can be answered handed to `receive`; the server's own words, which
        can't, go to `status` by the ordinary way."""
        subscription = await self.subscribe(subject, cb=status)
        self._ways[subscription._id] = receive
        return FastPath(subscription, self._ways)

    async def publish_straight(self, frames: Sequence[bytes]) -> None:
        """Publish messages that `frame` made. Raises what `publish` does when it can't."""
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
        """Where nats-py's parser leaves each message, by the number of its subscription."""
        receive = self._ways.get(sid)
        if receive is None or not reply:
            await super()._process_msg(sid, subject, reply, data, headers or b"")
        else:
            _hand_over(receive, reply, data, headers or b"")


class _Parser(Parser):
    """Takes whole messages of straight ways off the beginning of what was read."""

    def __init__(self, client: Client, ways: Mapping[int, Receive]) -> None:
        super().__init__(client)
        self._ways = ways

    async def parse(self, data: bytes = b"") -> None:
        if self.state == AWAITING_CONTROL_LINE:
            data, whole = self._straight(bytes(self.buf) + data)
            self.buf.clear()
            if not whole:
                self.buf.extend(data)
                return
        await super().parse(data)

    def _straight(self, data: bytes) -> tuple[bytes, bool]:
        """What is left, and False if it is the beginning of one more such message.

        `HMSG <subject> <subscription> <reply> <bytes of header> <bytes>`, then these bytes.
        """
        at = 0
        while data.startswith(b"HMSG ", at):
            line = data.find(b"\r\n", at)
            words = data[at:line].split() if line >= 0 else []
            receive = self._ways.get(int(words[2])) if len(words) == 6 else None
            if receive is None:
                break
            begin = line + 2
            body, end = begin + int(words[4]), begin + int(words[5])
            if len(data) < end + 2:
                return data[at:], False
            _hand_over(receive, words[3], data[body:end], data[begin:body])
            at = end + 2
        return data[at:], True


def _hand_over(receive: Receive, reply: bytes, data: bytes, headers: bytes) -> None:
    try:
        receive(reply, data, headers)
    except Exception:  # it would end the connection's reading
        log.exception("A message could not be taken")


def frame(subject: str, headers: Mapping[str, str], data: bytes) -> bytes:
    """A message as the connection has it. Its headers are plain: a line each, else `ValueError`."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers):
        raise ValueError("a header's value has more than one line")
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    line = f"HPUB {subject} {len(head)} {len(head) + len(data)}\r\n".encode()
    return b"%b%b%b\r\n" % (line, head, data)


def header(headers: bytes, name: bytes) -> str | None:
    """The value of one header line, or None."""
    _, found, rest = headers.partition(b"\r\n" + name + b": ")
    return rest[: rest.index(b"\r\n")].decode() if found else None
