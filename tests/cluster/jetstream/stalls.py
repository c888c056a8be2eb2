"""For how long nothing went on, and what of that came after an election had ended."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from pipeline.messaging import JetStream
from pipeline.messaging.stream_reader import messages
from tests.cluster.nats import NatsCluster
from tests.gaps import longest_gap
from tests.names import STREAM


class Stall(NamedTuple):
    """The longest time without anything new, and what of it came after the last election in it."""

    seconds: float
    beyond: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.beyond:.1f} s of them after the election"


async def forwarded(js: JetStream, cluster: NatsCluster, since: float, until: float) -> Stall:
    """Of the log, by the times that its leaders gave to its messages."""
    begin = {"start_time": datetime.fromtimestamp(since).astimezone().isoformat()}
    at = [
        datetime.fromisoformat(each.headers["Nats-Time-Stamp"]).timestamp()
        async for found in messages(js, STREAM, begin)
        for each in found
    ]
    return _stall(at, since, until, cluster, {STREAM})


def shown(at: list[list[float]], cluster: NatsCluster, since: float, until: float) -> Stall:
    """Of the partition that stood still for longest; `at` is that of `Shown`."""
    return max(
        _stall(times, since, until, cluster, {STREAM, f"{STREAM}-{partition}"})
        for partition, times in enumerate(at)
    )


def _stall(
    at: Iterable[float], since: float, until: float, cluster: NatsCluster, leaders: set[str]
) -> Stall:
    gap = longest_gap(at, since, until)
    elections = cluster.elections(gap.begin)
    ended = [when for when, name in elections if when < gap.end and name in leaders]
    return Stall(gap.seconds, gap.end - max(ended, default=gap.begin))
