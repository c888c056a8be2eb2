"""The state of an aggregate with what the engine knows beside it, pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic

from pipeline.model.aggregate import Aggregate, S, UnknownKind
from pipeline.model.chain import NOTHING, chained, hash_of
from pipeline.model.events import Event
from pipeline.model.personal import is_encrypted, require_opened


class AggregateUnreadable(ValueError):
    """An event of the aggregate can't be applied here, so no command to it can be decided."""

    def __init__(
        self, name: str, aggregate_id: str, reason: str, *, version: int, begins: str = ""
    ) -> None:
        """`version`: the first one that can't be made; `begins`: the kind of its first event, if
        that is none of the aggregate's."""
        super().__init__(f"{name} {aggregate_id}: {reason}")
        self.aggregate_id, self.reason, self.begins = aggregate_id, reason, begins
        self.version = version


# Not frozen: each command makes one, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class Versioned(Generic[S]):
    """The state after `version` events, which nothing changes; with version 0 there is no such
    aggregate yet."""

    id: str
    state: S
    version: int = 0
    event_id: str = ""
    """Of the last event."""
    until: datetime | None = None
    """The latest time of all its events (naive UTC). Clocks differ: it may not be the last
    event's."""
    hash: str = field(default=NOTHING, compare=False)
    """Of the last event, for the next one to name. No snapshot has it: it is read with the event
    that confirms the snapshot."""
    chained: bool = field(default=False, compare=False)
    """Whether the last event is part of a chain."""
    forgotten: int = 0
    """The version of the last event that had its subject forgotten, 0 without one."""


def initial(aggregate: Aggregate[Any, S], aggregate_id: str) -> Versioned[S]:
    """The aggregate before its first event."""
    return Versioned(aggregate_id, aggregate.initial())


def evolve(aggregate: Aggregate[Any, S], before: Versioned[S], event: Event) -> Versioned[S]:
    """After one more event; `AggregateUnreadable` if it is invalid or not the next one."""
    version, next_version = event["version"], before.version + 1
    if version != next_version or isinstance(version, float):
        why = f"version {version} after {before.version}"
        raise AggregateUnreadable(aggregate.name, before.id, why, version=next_version)
    try:
        event_id = _text(event["_id"])
        if is_encrypted(event):
            require_opened(event)
        state = aggregate.evolve(before.state, aggregate.newest_form(event))
        until = _latest(before.until, event)
        head, begun = hash_of(event), chained(event)
        forgotten = version if event["kind"] == aggregate.forgotten else before.forgotten
        return Versioned(before.id, state, version, event_id, until, head, begun, forgotten)
    except Exception as error:  # whatever the aggregate's `evolve` raises
        why = f"version {version}: {error}"
        begins = error.kind if isinstance(error, UnknownKind) and not before.version else ""
        raise AggregateUnreadable(
            aggregate.name, before.id, why, version=next_version, begins=begins
        ) from error


def fold(aggregate: Aggregate[Any, S], aggregate_id: str, events: Iterable[Event]) -> Versioned[S]:
    """After all these events, which start at version 1."""
    return fold_on(aggregate, initial(aggregate, aggregate_id), events)


def fold_on(
    aggregate: Aggregate[Any, S], state: Versioned[S], events: Iterable[Event]
) -> Versioned[S]:
    """After all these events, which follow the state."""
    for event in events:
        state = evolve(aggregate, state, event)
    return state


def _latest(until: datetime | None, event: Event) -> datetime | None:
    """The later time. No decision depends on times, so an invalid one is ignored."""
    moment = event.get("created_at")
    if not isinstance(moment, datetime):
        return until
    return max(until, moment) if until else moment


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(f"text {value!r}")
