"""Where a partition processor's messages come from, and the position to start at."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from pipeline.messaging import MARKER, JetStream, StreamState
from pipeline.tables.checkpoints import Checkpoint

T = TypeVar("T")


class StreamMissing(Exception):
    """There is no stream of the log; the forwarder creates it."""


class Delivery(Protocol):
    """Consecutive messages of a partition, as its source read them after a seek."""

    @property
    def partition(self) -> int: ...
    @property
    def acquisition(self) -> int:
        """The `acquisition` of the seek that it was read after."""

    @property
    def previous(self) -> int:
        """The sequence of the message delivered before it, or the seek's position."""

    @property
    def last(self) -> int:
        """The sequence of its last message."""

    @property
    def messages(self) -> Sequence[tuple[int, bytes]]:
        """(sequence, data) in order."""

    def read(self, how: Callable[[bytes], T]) -> Sequence[T]:
        """Each message's data, read that way."""

    def done(self) -> None:
        """Called once every document is written: it may be checkpointed, then acked."""


class Source(Protocol):
    """Where deliveries come from."""

    async def seek(self, partition: int, sequence: int | None, acquisition: int) -> int:
        """Read on after `sequence`, or after the ack floor if None; return that position.

        Deliveries that were not acked are dropped; those read from now on have this `acquisition`.
        """

    async def contested(self, partition: int) -> None:
        """Another worker has acquired it: release it, unless its lease is still ours."""


async def stream_state(js: JetStream) -> StreamState:
    """The stream's first and last sequence. Raises `StreamMissing`."""
    state = await js.state(js.names.log)
    if state is None:
        raise StreamMissing(f"there is no stream {js.names.log}")
    return state


def starting_position(checkpoint: Checkpoint, floor: int, state: StreamState) -> int | None:
    """The sequence to read on after; None when the generation has to be filled from the store.

    It is the lower of ack floor and checkpoint.
    """
    if checkpoint.sequence is None or checkpoint.applied is None:
        return None
    # From `applied` to `sequence` the stream has nothing of this partition, so a floor there means
    # the same as the checkpoint, and the higher of both is right.
    reached = max(floor, checkpoint.at) >= checkpoint.applied
    start = checkpoint.sequence if reached else floor
    # Up to `at` the partition was another one; what is below `first` the stream has no more; and a
    # position above `last` is of messages that the server has lost.
    if start < checkpoint.at or start + 1 < state.first or start > state.last:
        return None
    return start


def is_marker(data: bytes) -> bool:
    """Whether the message asks the partition to backfill."""
    return data == MARKER
