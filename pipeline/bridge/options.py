"""An app's options of the bridge: assignment, what runs before a commit, sizes.

Without options an app gets all partitions of its topics and plain commits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

import faust
from faust.types import TP

from pipeline.support.access import ServerAccess

Assign = Callable[[Set[int], Set[int]], Awaitable[None]]
"""`await assign(partitions, lost)`: the whole new share, and what was lost without a drain.

What leaves the share is drained and committed before it returns; what is in `lost` is dropped."""

BeforeCommit = Callable[[Mapping[TP, int]], Awaitable[Collection[TP]]]
"""Called with the last sequence done by partition; returns the partitions that may be acked."""


class Assignment(Protocol):
    """Decides which partitions this worker has. The bridge runs it while the consumer runs."""

    async def run(self, assign: Assign, partitions: int) -> None:
        """Call `assign` whenever the share changes; end only by cancellation."""

    async def owns(self, partition: int) -> bool:
        """Whether the partition is still ours; called when the server has refused our pin (423)."""

    def lost(self, partition: int) -> None:
        """Another worker reads the partition: leave it out of the next `assign`."""


class Everything:
    """The assignment of a lone worker: all partitions, always."""

    async def run(self, assign: Assign, partitions: int) -> None:
        await assign(frozenset(range(partitions)), frozenset())
        await asyncio.Event().wait()

    async def owns(self, partition: int) -> bool:
        return True

    def lost(self, partition: int) -> None:
        return None


async def _all(done: Mapping[TP, int]) -> Collection[TP]:
    return done.keys()


@dataclass(frozen=True, slots=True)
class Options:
    """How the bridge reads.

    A topic in `streams` has no stream of its own: it reads that one, with its own consumers.

    `batch` bounds the messages of one delivery, `in_flight` a partition's deliveries that are not
    done. `lease_seconds` is how long a silent reader keeps its pin. An app that knows better than
    the ack floor where to start sets `waits_for_seek`: nothing of a new partition is read before
    its `Consumer.seek_after`. `nats` is for what the broker's URL can't say: credentials,
    TLS, replicas.
    """

    assignment: Assignment = field(default_factory=Everything)
    before_commit: BeforeCommit = _all
    nats: ServerAccess | None = None
    lease_seconds: float = 10.0
    batch: int = 1000
    in_flight: int = 2
    waits_for_seek: bool = False
    streams: Mapping[str, str] = field(default_factory=dict)
    max_age_hours: float = 0.0

    def stream(self, topic: str) -> str:
        """The stream that a topic reads."""
        return self.streams.get(topic, topic)

    @property
    def expires(self) -> float:
        """Seconds, within a quarter, that a pull request waits at the server: well under the lease.

        A waiting request gets the pin even if its client is dead. So a dead worker's requests have
        to end before its lease does, which had been renewed up to a third of its time before.
        """
        return min(4.0, 0.4 * self.lease_seconds)


_OPTIONS: WeakKeyDictionary[faust.App, Options] = WeakKeyDictionary()


def configure(app: faust.App, options: Options) -> None:
    """Give an app its options; before the app starts."""
    _OPTIONS[app] = options


def options_of(app: faust.App) -> Options:
    """The options of an app, or the defaults."""
    return _OPTIONS.setdefault(app, Options())
