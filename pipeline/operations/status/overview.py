"""The status of the whole pipeline: its shape, and how it is computed from the servers' answers.

A figure that is not known is None, and a field beside it has the reason.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipeline.coordination.worker_registry import Worker, WorkerRegistry, workers
from pipeline.operations.status.commands import Commands
from pipeline.operations.status.instances import Instance
from pipeline.operations.status.lag import WaitingEvents, lag
from pipeline.operations.status.last_hour import Point, Stage
from pipeline.operations.status.lateness import Alarm, Furthest, alarm
from pipeline.operations.status.partitions import PartitionStatus, Reading
from pipeline.operations.status.probe import Unknown, joined, why
from pipeline.operations.status.reader import Log
from pipeline.operations.status.servers import Server


class Count(NamedTuple):
    """About how many events were stored, `at` a moment of the event loop's clock."""

    events: int
    at: float


@dataclass(frozen=True, slots=True)
class Stored:
    """`events`: about how many MongoDB has; `rate`: so many more each second."""

    events: int | None
    rate: float | None
    unknown: str | None


@dataclass(frozen=True, slots=True)
class Forwarded:
    """`events`: how many of those stored the stream has got, or workers were asked to read from the
    store; `lag_events` and `lag_seconds`: how many it has not, and the age of the oldest; `alarm`:
    amber from 5 seconds on, red from 30."""

    events: int | None
    rate: float | None
    lag_events: int | None
    lag_seconds: float | None
    alarm: Alarm | None
    unknown: str | None


@dataclass(frozen=True, slots=True)
class Projected:
    """`rate`: events applied a second. `lag_events` and `lag_seconds`: how many of those stored are
    not in the index, and the age of the oldest; `waiting`: those of them that are in the stream.
    `parked`: accounts with an event that can't be applied; `newest_parked`: the ids of those parked
    last, five at most. `alarm`: amber from 5 seconds of lag on, red from 30."""

    projection: str
    rate: float | None
    lag_events: int | None
    lag_seconds: float | None
    alarm: Alarm | None
    furthest: Furthest | None
    waiting: int | None
    parked: int | None
    unknown: str | None
    newest_parked: list[str]


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Who leads; `leader` and `unknown` are both None when nobody does."""

    leader: str | None
    unknown: str | None


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it, as it was read `at` an RFC 3339 time. Rates are events a second over the last few
    seconds, and None until they are known.

    `instances`: the processes of all roles, and those of the last minutes; `instances_unknown` says
    why it is not known which of them answer. `partitions` are those of the first projection.
    `rebuild` is the one that runs, or the last one if that ended in the last ten minutes.
    """

    at: str
    servers: list[Server]
    commands: Commands
    stored: Stored
    forwarded: Forwarded
    projected: list[Projected]
    forwarder: Forwarder
    workers: list[Worker]
    workers_unknown: str | None
    instances: list[Instance]
    instances_unknown: str | None
    partitions: list[PartitionStatus]
    rebuild: Any
    rebuild_unknown: str | None


def stored(count: Count | Unknown, rate: float | None) -> Stored:
    return Stored(None if isinstance(count, Unknown) else count.events, rate, why(count))


def forwarded(
    stored: Stored, unforwarded: WaitingEvents | Unknown, log: Log | Unknown, rate: float | None
) -> Forwarded:
    behind = lag(unforwarded, WaitingEvents(), datetime.now(UTC))
    events = None
    if stored.events is not None and behind.events is not None:
        events = max(0, stored.events - behind.events)
    unknown = joined(stored.unknown, behind.unknown, why(log))
    late = alarm(behind.seconds)
    return Forwarded(events, rate, behind.events, behind.seconds, late, unknown)


def projected(
    name: str, reading: Reading, rate: float | None, furthest: Furthest | None
) -> Projected:
    behind = lag(reading.unforwarded, reading.unapplied, datetime.now(UTC))
    return Projected(
        name,
        rate,
        behind.events,
        behind.seconds,
        alarm(behind.seconds),
        furthest,
        None if isinstance(reading.unapplied, Unknown) else reading.unapplied.events,
        None if isinstance(reading.parked, Unknown) else reading.parked,
        joined(behind.unknown, why(reading.parked)),
        [*reading.newest_parked],
    )


def point(found: Overview, lags: Sequence[Sequence[float | None]]) -> Point:
    """What the charts show of it; `lags`: of each projection's partitions."""
    return Point(
        Stage(found.commands.rate),
        Stage(found.stored.rate),
        Stage(found.forwarded.rate, found.forwarded.lag_seconds),
        {
            each.projection: Stage(each.rate, each.lag_seconds, tuple(partitions))
            for each, partitions in zip(found.projected, lags, strict=True)
        },
    )


def forwarder(owner: str | Unknown | None) -> Forwarder:
    """The leader, by the owner of the lease: a host, a process id and a ULID."""
    if isinstance(owner, Unknown):
        return Forwarder(None, owner.why)
    return Forwarder(owner and (owner.rpartition("-")[0] or owner), None)


def registered_workers(
    registry: WorkerRegistry | Unknown, partitions: Iterable[PartitionStatus], seconds: float
) -> tuple[list[Worker], str | None]:
    """The workers, each with its partitions, or the reason why they are not known."""
    owned: defaultdict[str, list[int]] = defaultdict(list)
    for each in partitions:
        if each.owner_unknown is not None:
            return [], each.owner_unknown
        if each.owner is not None:
            owned[each.owner].append(each.partition)
    return (
        ([], registry.why)
        if isinstance(registry, Unknown)
        else (workers(registry, seconds, owned), None)
    )
