"""The reader of one partition: pull requests on one inbox, a bounded buffer, what is out.

The consumer is durable, acks all below, and pinned: the server itself keeps a second reader out.
Pull requests are made by hand because a subscription's `fetch` awaits every message, which costs
three quarters of the rate.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
from faust.types import TP
from nats.aio.msg import Msg

from pipeline.bridge.durable import GROUP, Durable
from pipeline.bridge.options import Options
from pipeline.bridge.outstanding import Ack, Out, Outstanding
from pipeline.messaging import JetStream
from pipeline.messaging.fast_path import FastPath, header

_CONSUMER_GONE = frozenset({"404", "503"})
_PIN = b"Nats-Pin-Id"


class Position(NamedTuple):
    """Where a message stands, read from its reply subject `$JS.ACK…`."""

    stream: int
    consumer: int
    seconds: float
    deliveries: int


class Arrived(NamedTuple):
    """A message as it came; `reply` is where it is to be acked, `headers` the whole header."""

    position: Position
    data: bytes
    reply: bytes
    headers: bytes


class Trouble(NamedTuple):
    """What a feed tells its owner: it must be read anew, or another worker has the partition."""

    pinned_elsewhere: bool


def position_of(reply: bytes) -> Position:
    """Parse `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<n>.<seq>.<cseq>.<ns>.<pending>…`."""
    tokens = reply.split(b".")
    at = 4 if len(tokens) == 9 else 6
    return Position(
        int(tokens[at + 1]), int(tokens[at + 2]), int(tokens[at + 3]) / 1e9, int(tokens[at])
    )


class Feed:
    """One partition of one topic. `on_data` and `on_trouble` are called, never awaited."""

    def __init__(
        self,
        js: JetStream,
        tp: TP,
        options: Options,
        on_data: Callable[[], None],
        on_trouble: Callable[[TP, Trouble], None],
    ) -> None:
        self.js, self.tp, self.options = js, tp, options
        self.on_data, self.on_trouble = on_data, on_trouble
        self.durable = Durable(js, tp, options.stream(tp.topic), options.lease_seconds)
        self.buffer: deque[Arrived] = deque()
        self.out = Outstanding()
        self.seeks = 0
        self.label: int | None = None
        self.handed = 0
        self.open = self.started = self._left = False
        self._created: str | None = None
        self._inbox = ""
        self._subscription: FastPath | None = None
        self._asked, self._asked_at = 0, 0.0
        self._pin: str | None = None
        self._last, self._next_delivery = 0, 1
        self._lock = asyncio.Lock()

    async def seek(self, sequence: int | None, *, label: int | None = None) -> int:
        """Read on after `sequence`, or after the ack floor; return that position.

        What is read from now on carries `label`. What was handed over and is not acked becomes
        stale: the RESET moves the ack floor as well, so nothing may be out then.
        """
        async with self._lock:
            return await self._restart(sequence, unpin=False, keep=False, label=label)

    async def resume(self, *, unpin: bool = False) -> None:
        """Read on where it was after a lost connection or request; what is out stays out."""
        async with self._lock:
            if not self._left:
                await self._restart(None, unpin=unpin, keep=True)

    async def leave(self) -> None:
        """Ask for no more, for good; what is out can still be acked."""
        self._left = True
        await self.close()

    async def close(self) -> None:
        """Ask for no more until it is read on."""
        self.open = False
        self.buffer.clear()
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            with suppress(Exception):
                await subscription.unsubscribe()

    def drop(self) -> None:
        """Forget what is out: it is another's now, or will be delivered again."""
        self.seeks += 1
        self.buffer.clear()
        self.out.forget()

    async def ask(self) -> None:
        """Keep about one batch asked for. A request that was lost is forgotten after its time."""
        if not self.open:
            return
        now = time.monotonic()
        if self._asked and now - self._asked_at > self.options.expires + 1:
            self._asked = 0
        if self._asked + len(self.buffer) >= self.options.batch:
            return
        request: dict[str, Any] = {
            "batch": self.options.batch,
            "expires": int(self.options.expires * 1e9),
            "group": GROUP,
        }
        if self._pin:
            request["id"] = self._pin
        self._asked, self._asked_at = self._asked + self.options.batch, now
        try:
            await self.js.nc.publish(
                self.durable.next_subject, orjson.dumps(request), reply=self._inbox
            )
        except Exception:
            self._asked -= self.options.batch

    def hand_over(self, limit: int) -> list[Arrived]:
        """Take up to `limit` messages out of the buffer; they count as out until acked."""
        taken = [self.buffer.popleft() for _ in range(min(limit, len(self.buffer)))]
        if taken:
            last = taken[-1]
            self.handed = last.position.stream
            self.out.append(Out(last.position.stream, last.reply.decode()))
        return taken

    async def ack(self, ack: Ack) -> None:
        """Ack all up to a message. Once closed it waits: the next owner starts there."""
        if ack.reply and self.open:
            await self.js.nc.publish(ack.reply, b"+ACK")
        elif ack.reply:
            await self.js.nc.request(ack.reply, b"+ACK", timeout=2)
        if self.out.counting == ack.counting:
            self.out.acked = ack.last
        await self.ask()

    async def misled(self) -> bool:
        """Whether the server goes by an earlier owner's ack or RESET that came late.

        A count above ours: until we reach it, it ignores our acks. A floor above what we have
        handed over: it withholds what is between, unless that is gone from the stream.
        """
        delivered, floor = await self.durable.progress()
        if floor.number > delivered.number or floor.sequence <= self.handed:
            return floor.number > delivered.number
        state = await self.js.state(self.options.stream(self.tp.topic))
        return state is not None and floor.sequence >= state.first

    async def _restart(
        self, sequence: int | None, *, unpin: bool, keep: bool, label: int | None = None
    ) -> int:
        self.out.begin_count()
        await self.close()
        await self.durable.ensure()
        state = await self.js.state(self.options.stream(self.tp.topic))
        created = state.created if state else None
        anew = not keep or created != self._created
        self._created = created
        if anew:  # before the RESET: an ack of what is out would move the floor it sets
            self.drop()
            self.label = label
        else:  # an ack may have been lost, or not have counted
            sequence = self.out.acked
        if unpin or not self.started:
            await self.durable.unpin()
            self._pin = None
        self.started = True
        floor = await self.durable.reset(sequence)
        if state and floor > state.last:  # after a power loss the floor can stand above the log
            floor = await self.durable.reset(state.last)
        if anew:
            self.handed = floor
        self.out.counted_from(floor)
        self._asked, self._next_delivery, self._last = 0, 1, floor
        self._inbox = self.js.nc.new_inbox()
        self._subscription = await self.js.nc.subscribe_fast(
            self._inbox, self._on_message, self._status_of(self._inbox)
        )
        self.open = not self._left
        await self.ask()
        return floor

    def _status_of(self, inbox: str) -> Callable[[Msg], Any]:
        async def receive(message: Msg) -> None:
            if self.open and inbox == self._inbox:
                await self._on_status(message.headers or {})

        return receive

    def _on_message(self, reply: bytes, data: bytes, headers: bytes) -> None:
        if not self.open:
            return
        position = position_of(reply)
        if _PIN in headers:
            self._pin = header(headers, _PIN)
        in_order = position.consumer == self._next_delivery and position.stream > self._last
        if not in_order or position.deliveries > 1:
            self._fail(Trouble(pinned_elsewhere=False))
            return
        self._next_delivery, self._last = position.consumer + 1, position.stream
        self._asked -= 1
        self.out.came(position.stream, reply)
        if position.stream > self.handed:
            self.buffer.append(Arrived(position, data, reply, headers))
            self.on_data()

    async def _on_status(self, headers: dict[str, str]) -> None:
        status = headers.get("Status")
        if status in (None, "100"):
            return
        self._asked = max(0, self._asked - int(headers.get("Nats-Pending-Messages", self._asked)))
        deleted = status == "409" and "Deleted" in headers.get("Description", "")
        if status == "423" or status in _CONSUMER_GONE or deleted:
            self._fail(Trouble(pinned_elsewhere=status == "423"))
        else:
            await self.ask()

    def _fail(self, trouble: Trouble) -> None:
        self.open = False
        self.on_trouble(self.tp, trouble)
