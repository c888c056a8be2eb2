"""Deliveries of a partition that are not acked yet, and the subject to ack each on.

An ack carries the server's number of the delivery, and a RESET begins a new count. The server would
take an old number for one far ahead and ignore the acks that follow, so it must not be sent.
"""

from collections import deque
from collections.abc import Container
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(eq=False, slots=True)
class Out:
    """A delivery: its last sequence and its subject to ack; None: not known yet, `""`: acked."""

    last: int
    reply: str | None


class Ack(NamedTuple):
    """All up to `last` is done; `reply` is valid while `counting` is the present one."""

    last: int
    reply: str
    counting: int


class Outstanding(deque[Out]):
    """Oldest first. `acked`: the last sequence acked since the partition was acquired or sought.

    `counting`: how many counts the server has begun.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counting = 0
        self.acked: int | None = None
        self._again: deque[Out] = deque()

    def ready(self, done: Container[int]) -> Ack | None:
        """The ack for the longest run of deliveries from the oldest on that are all done."""
        found = None
        for out in self:
            if out.last not in done or out.reply is None:
                break
            found = Ack(out.last, out.reply, self.counting)
        return found

    def begin_count(self) -> None:
        """The server is about to begin a new count: no reply subject is valid any more."""
        self.counting += 1
        for out in self:
            out.reply = None

    def counted_from(self, floor: int) -> None:
        """The new count begins after the floor: what is out above it will be delivered again."""
        self.acked = floor
        self._again = deque(out for out in self if out.last > floor)
        for out in self:
            out.reply = None if out.last > floor else ""

    def came(self, sequence: int, reply: bytes) -> None:
        """A message was delivered: its reply acks the delivery that ends with it."""
        while self._again and self._again[0].last <= sequence:
            out = self._again.popleft()
            # If its last message is gone from the stream, a later ack includes it.
            out.reply = reply.decode() if out.last == sequence else ""

    def forget(self) -> None:
        """Nothing that is out may be acked any more."""
        self.begin_count()
        self.clear()
        self._again.clear()
