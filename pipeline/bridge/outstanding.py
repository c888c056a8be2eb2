"""What of a partition was handed over and not acked yet, and where each is to be acked.

An ack carries the server's count of deliveries, and a RESET begins a new count. An ack with an old
one would be taken for something far ahead, and hide those that follow: so it must not be sent.
"""

from collections import deque
from collections.abc import Container
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(eq=False, slots=True)
class Out:
    """Its last sequence and where to ack it: None until that is known again, `""` if acked."""

    last: int
    reply: str | None


class Ack(NamedTuple):
    """All up to `last` is done; `reply` is right as long as the counting is this one."""

    last: int
    reply: str
    counting: int


class Outstanding(deque[Out]):
    """Oldest first. `acked`: the last sequence acked since the partition was acquired or sought."""

    def __init__(self) -> None:
        super().__init__()
        self.counting = 0
        self.acked: int | None = None
        self._again: deque[Out] = deque()

    def ready(self, done: Container[int]) -> Ack | None:
        """The ack for the longest run of those that are all done."""
        found = None
        for out in self:
            if out.last not in done or out.reply is None:
                break
            found = Ack(out.last, out.reply, self.counting)
        return found

    def begin_count(self) -> None:
        """The server is about to count anew: no reply is right any more."""
        self.counting += 1
        for out in self:
            out.reply = None

    def counted_from(self, floor: int) -> None:
        """It counts from the floor: what is out above it will come again."""
        self.acked = floor
        self._again = deque(out for out in self if out.last > floor)
        for out in self:
            out.reply = None if out.last > floor else ""

    def came(self, sequence: int, reply: bytes) -> None:
        """A message was delivered: by its reply the one that ends with it can be acked."""
        while self._again and self._again[0].last <= sequence:
            out = self._again.popleft()
            out.reply = (
                reply.decode() if out.last == sequence else ""
            )  # gone: a later ack is for it too

    def forget(self) -> None:
        """None is ours to ack any more."""
        self.begin_count()
        self.clear()
        self._again.clear()
