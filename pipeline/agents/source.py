"""Where a partition processor's messages come from, and the position to start at."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from pipeline.messaging import MARKER, STREAM, JetStream, StreamState
from pipeline.tables.checkpoints import Checkpoint

T = TypeVar("T")


class StreamMissing(Exception):
    """There is no stream `balance`; the forwarder makes it."""


class Delivery(Protocol):
    """Consecutive messages of a partition, as its source read them after a seek."""

    @property
    def partition(self) -> int: ...
    @property
    def acquisition(self) -> int:
        """The `take` of the seek that it was read after."""

    @property
    def previous(self) -> int:
        """The sequence of the partition's message delivered before, or the seek's position."""

    @property
    def last(self) -> int:
        """The sequence of its last message."""

    @property
    def messages(self) -> Sequence[tuple[int, bytes]]:
        """(sequence, data) in order."""

    def read(self, how: Callable[[bytes], T]) -> Sequence[T]:
        """Each message's data, read that way."""

    def done(self) -> None:
        """Told once every document is written: it may be checkpointed, then acked."""


class Source(Protocol):
    """Where deliveries come from."""

    async def seek(self, partition: int, sequence: int | None, acquisition: int) -> int:
        """Read on after `sequence`, or after the ack floor if None; return that position.

        What was handed over and not acked is dropped; what is read from now on carries `take`.
        """

    async def contested(self, partition: int) -> None:
        """Another worker has taken it: let it go, unless it is still to be ours."""


async def stream_state(js: JetStream) -> StreamState:
    """Where the stream stands. Raises `StreamMissing`."""
    state = await js.state(STREAM)
    if state is None:
        raise StreamMissing(f"there is no stream {STREAM}")
    return state


def starting_position(claim: Checkpoint, floor: int, state: StreamState) -> int | None:
    """The sequence to read on after, or None when the store has to be backfilled first.

    The lower of ack floor and checkpoint; but what lies between the partition's last message and
    its checkpoint held nothing of it, so an ack floor there says as much as the checkpoint. Up to
    `claim.at` the partition was another one: nothing before it is read.
    """
    if claim.sequence is None or claim.applied is None:
        return None
    start = claim.sequence if max(floor, claim.at) >= claim.applied else floor
    if start < claim.at or start + 1 < state.first or start > state.last:
        return None
    return start


def is_marker(data: bytes) -> bool:
    """Whether the message asks the partition to backfill."""
    return data == MARKER
