"""A projection's agent: passes every batch that Faust delivers to its projection runner.

The runner has a processor for each partition; they work side by side, so one that waits keeps no
other waiting. A batch is acked in Faust once its documents are written; the bridge then has the
position checkpointed (`before_commit`), and acks it in JetStream.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import faust
from faust.types import TP

from pipeline.agents.projection_runner import ProjectionRunner
from pipeline.bridge import Batch
from pipeline.model.projection import Projection
from pipeline.tables.counters import Counters

T = TypeVar("T")

Note = Callable[[faust.EventT[Batch]], None]


@dataclass(frozen=True, slots=True, eq=False)
class BatchDelivery:
    """A batch as the processor's `Delivery`; `done` acks it in Faust."""

    batch: Batch
    ack: Callable[[], Any]

    @property
    def partition(self) -> int:
        return self.batch.partition

    @property
    def acquisition(self) -> int:
        return -1 if self.batch.stale or self.batch.label is None else self.batch.label

    @property
    def previous(self) -> int:
        return self.batch.previous

    @property
    def last(self) -> int:
        return self.batch.last

    @property
    def messages(self) -> Sequence[tuple[int, bytes]]:
        return self.batch.messages

    def read(self, how: Callable[[bytes], T]) -> Sequence[T]:
        return self.batch.read(how)

    def done(self) -> None:
        if not self.batch.stale:
            self.ack()


class BridgeSource:
    """The processors' `Source`: the feeds of the Faust consumer."""

    def __init__(self, app: faust.App, topic: str) -> None:
        self._app, self._topic = app, topic

    async def seek(self, partition: int, sequence: int | None, acquisition: int) -> int:
        tp = TP(self._topic, partition)
        position: int = await self._app.consumer.seek_after(tp, sequence, label=acquisition)
        return position

    async def contested(self, partition: int) -> None:
        await self._app.consumer.keeps(TP(self._topic, partition))


def _nothing(event: faust.EventT[Batch]) -> None:
    return None


class ProjectionAgent:
    """The agent of one projection; its topic has the projection's name.

    `note` is called with each delivery first. `runner` is set while the worker's assignment runs.
    """

    def __init__(self, app: faust.App, projection: Projection, note: Note = _nothing) -> None:
        self.projection, self.topic, self._note = projection, projection.name, note
        self.source = BridgeSource(app, self.topic)
        self.counters = Counters()
        self.runner: ProjectionRunner | None = None
        app.on_partitions_assigned.connect(self._acquire, weak=False)
        app.on_partitions_revoked.connect(self._release, weak=False)

    async def read(self, stream: faust.StreamT[Batch]) -> None:
        """The agent's function."""
        # `noack`: Faust would ack a batch as soon as this loop is done with it, before it is
        # written, and even if it raised. The processor acks.
        async for event in stream.noack().events():
            self._note(event)
            if self.runner is not None:
                await self.runner.offer(BatchDelivery(event.value, event.ack))

    async def before_commit(self, done: Mapping[TP, int]) -> Collection[TP]:
        """Write checkpoints for what is to be acked of our topic; return what may be acked."""
        sequences = {tp.partition: last for tp, last in done.items() if tp.topic == self.topic}
        if self.runner is None or not sequences:
            return []
        checkpointed = await self.runner.checkpoint(sequences)
        return [TP(self.topic, partition) for partition in checkpointed]

    async def _acquire(self, app: Any, assigned: set[TP], **_: Any) -> None:
        if self.runner is not None:
            for tp in assigned:
                if tp.topic == self.topic:
                    self.runner.acquire(tp.partition)

    async def _release(self, app: Any, revoked: set[TP], **_: Any) -> None:
        if self.runner is not None:
            for tp in revoked:
                if tp.topic == self.topic:
                    await self.runner.release(tp.partition)
