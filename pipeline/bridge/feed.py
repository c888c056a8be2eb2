"""The reader of one partition: pull requests on one inbox, a bounded buffer, what is not acked yet.

The consumer is durable, acks all below, and pinned: the server itself keeps a second reader out.
The module makes its own pull requests, because nats-py's `fetch` awaits each message, which costs
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
from pipeline.messaging import JetStream, StreamState
from pipeline.messaging.fast_path import FastPath, header, plain_frame
from pipeline.support.ticks import to_tick

_CONSUMER_GONE = frozenset({"404", "503"})
_PIN = b"Nats-Pin-Id"


class Position(NamedTuple):
    """Sequences, time and number of deliveries of a message, from its reply subject `$JS.ACK…`."""

    stream: int
    consumer: int
    seconds: float
    deliveries: int


class Arrived(NamedTuple):
    """A message as received; `reply` is the subject to ack it on, `headers` the whole header."""

    position: Position
    data: bytes
    reply: bytes
    headers: bytes


class Trouble(NamedTuple):
    """A feed can't go on: it must be restarted, or another worker has the partition's pin."""

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
        self.stream = options.stream(tp.topic)
        self.durable = Durable(js, tp, self.stream, options.lease_seconds)
        self.buffer: deque[Arrived] = deque()
        self.out = Outstanding()
        self.seeks = 0
        self.label: int | None = None
        self.delivered = 0
        self.open = self.started = self._left = False
        self._created: str | None = None
        self._in_step: object = None
        self._inbox = ""
        self._subscription: FastPath | None = None
        self._requested = 0
        """Messages that may still come, for all requests; the server serves them in turns."""
        self._ends: deque[float] = deque()
        """When each request is over for sure, by the monotonic clock."""
        self._pin: str | None = None
        self._last, self._next_delivery = 0, 1
        self._lock = asyncio.Lock()

    @property
    def pinned(self) -> bool:
        """Whether the server has given us the pin; without it a restart unpins whoever has it."""
        return self._pin is not None

    async def seek(self, sequence: int | None, *, label: int | None = None) -> int:
        """Read on after `sequence`, or after the ack floor; return that position.

        Batches read from now on carry `label`. Batches that were delivered and not acked become
        stale: the RESET moves the ack floor as well, so nothing may be out then.
        """
        async with self._lock:
            return await self._restart(sequence, unpin=False, keep=False, label=label)

    async def resume(self, *, unpin: bool = False) -> None:
        """Read on after a lost connection or request; what is out stays out."""
        async with self._lock:
            if not self._left:
                await self._restart(None, unpin=unpin, keep=True)

    async def leave(self) -> None:
        """Request no more, for good; what is out can still be acked."""
        self._left = True
        await self.close()

    async def close(self) -> None:
        """Request no more until the next seek or resume."""
        self.open = False
        self.buffer.clear()
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            with suppress(Exception):
                await subscription.unsubscribe()

    def drop(self) -> None:
        """Forget what is out: another worker owns the partition, or it will be delivered again."""
        self.seeks += 1
        self.buffer.clear()
        self.out.forget()

    async def request(self) -> None:
        """Request a batch once half a batch or less is requested or waits here.

        The server reports neither a lost request nor one that it has served. So a request is over a
        second after it would have expired; if more is to come then than the others can bring, it
        was lost, and we begin to count again. To request too much does no harm.
        """
        if not self.open:
            return
        now, options = time.monotonic(), self.options
        while self._ends and self._ends[0] < now:
            self._ends.popleft()
        if self._requested > options.batch * len(self._ends):
            self._requested = 0
        if self._requested + len(self.buffer) > options.batch // 2:
            return
        expires = to_tick(options.expires)  # so that those of all partitions are over together
        query: dict[str, Any] = {
            "batch": options.batch,
            "expires": int(expires * 1e9),
            "group": GROUP,
        }
        if self._pin:
            query["id"] = self._pin
        self._requested += options.batch
        self._ends.append(now + expires + 1)
        try:
            await self.js.nc.publish(
                self.durable.next_subject, orjson.dumps(query), reply=self._inbox
            )
        except Exception:
            self._end_request(options.batch)

    def deliver(self, limit: int) -> list[Arrived]:
        """Up to `limit` messages from the buffer, for Faust; they count as out until acked."""
        if len(self.buffer) <= limit:
            found = list(self.buffer)
            self.buffer.clear()
        else:
            found = [self.buffer.popleft() for _ in range(limit)]
        if found:
            last = found[-1]
            self.delivered = last.position.stream
            self.out.append(Out(last.position.stream, last.reply.decode()))
        return found

    async def ack(self, ack: Ack) -> None:
        """Ack all up to a message.

        Once closed, wait for the server's answer: the partition's next owner starts at the floor.
        """
        if ack.reply and self.open:
            await self.js.nc.publish_frames([plain_frame(ack.reply, b"+ACK")])
        elif ack.reply:
            await self.js.nc.request(ack.reply, b"+ACK", timeout=2)
        if self.out.counting == ack.counting:
            self.out.acked = ack.last

    async def is_out_of_step(self, state: StreamState | None) -> bool:
        """Whether an ack or RESET of an earlier owner came late and changed the consumer's state.

        A count above ours: the server ignores our acks until we reach it. A floor above what we
        have delivered: it withholds what is between, unless that is gone from the stream. Neither
        harms while nothing was published or acked since the last look: `state` is the stream's now.
        """
        seen = state, self.out.acked, self.seeks
        if seen == self._in_step and not self.out:
            return False
        delivered, floor = await self.durable.progress()
        if floor.number > delivered.number:
            return True
        if floor.sequence > self.delivered and state is not None and floor.sequence >= state.first:
            return True
        self._in_step = seen
        return False

    # ---------------------------------------------------------------- restarting

    async def _restart(
        self, sequence: int | None, *, unpin: bool, keep: bool, label: int | None = None
    ) -> int:
        """Read on after `sequence`, or after the ack floor; return the new floor.

        `keep`: what is out stays out, unless the stream was created again. The order of the steps
        must not change; comments say why. A restart that fails is repeated from the beginning.
        """
        # No ack may be sent from here on. The RESET begins a new count of deliveries, and an ack
        # with an old number would be taken for one far ahead.
        self.out.begin_count()
        await self.close()
        await self.durable.ensure()
        state = await self.js.state(self.stream)
        created = state.created if state else None
        fresh = not keep or created != self._created
        if fresh:
            # Before the RESET: an ack of what is out would move the floor that it sets.
            self.drop()
            self.label = label
        else:
            # Not after the server's floor: an ack may have been lost, or not have counted.
            sequence = self.out.acked
        # UNPIN before RESET: the pin survives a RESET, and whoever has it would get what is
        # delivered again.
        await self._acquire_pin(unpin=unpin)
        floor = await self._reset(sequence, state)
        self._begin_after(floor, fresh=fresh)
        self._created = created  # not before: a repeated try has to begin as fresh as this one
        await self._subscribe()
        return floor

    async def _acquire_pin(self, *, unpin: bool) -> None:
        """Without a pin of its own it always unpins. The partition's last owner may still have it,
        or the server gave it to the request before, with a message that came after the close; then
        our requests would wait until that pin times out."""
        if unpin or self._pin is None:
            await self.durable.unpin()
            self._pin = None
        self.started = True

    async def _reset(self, sequence: int | None, state: StreamState | None) -> int:
        floor = await self.durable.reset(sequence)
        if state and floor > state.last:
            # After a power loss the floor can be above the end of the stream, and the consumer
            # would withhold all messages up to it.
            floor = await self.durable.reset(state.last)
        return floor

    def _begin_after(self, floor: int, *, fresh: bool) -> None:
        """Expect delivery number 1 and the sequences above the floor, as after every RESET."""
        if fresh:
            self.delivered = floor
        self.out.counted_from(floor)
        self._requested, self._next_delivery, self._last = 0, 1, floor
        self._ends.clear()

    async def _subscribe(self) -> None:
        """A new inbox each time, so that what was sent to the old one is never read."""
        self._inbox = self.js.nc.new_inbox()
        self._subscription = await self.js.nc.subscribe_fast(
            self._inbox, self._on_message, self._status_of(self._inbox)
        )
        self.open = not self._left
        await self.request()

    # ---------------------------------------------------------------- what the server sends

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
        # Deliveries are numbered without a gap, and come once, because `ack_wait` is long. Anything
        # else means a loss or a second reader: read again from what was acked.
        in_order = position.consumer == self._next_delivery and position.stream > self._last
        if not in_order or position.deliveries > 1:
            self._fail(Trouble(pinned_elsewhere=False))
            return
        self._next_delivery, self._last = position.consumer + 1, position.stream
        self._requested -= 1
        self.out.came(position.stream, reply)
        if position.stream > self.delivered:  # else Faust has it already, from before a resume
            self.buffer.append(Arrived(position, data, reply, headers))
            self.on_data()

    def _end_request(self, pending: int) -> None:
        """A request is over that would have brought so many messages more."""
        self._requested = max(0, self._requested - pending)
        if self._ends:
            self._ends.popleft()

    async def _on_status(self, headers: dict[str, str]) -> None:
        status = headers.get("Status")
        if status in (None, "100"):
            return
        # Whatever it says, it ends a request.
        self._end_request(int(headers.get("Nats-Pending-Messages", self._requested)))
        # 423: another client has the pin. A consumer that is gone is created again by a restart.
        deleted = status == "409" and "Deleted" in headers.get("Description", "")
        if status == "423" or status in _CONSUMER_GONE or deleted:
            self._fail(Trouble(pinned_elsewhere=status == "423"))
        else:
            await self.request()

    def _fail(self, trouble: Trouble) -> None:
        self.open = False
        self.on_trouble(self.tp, trouble)
