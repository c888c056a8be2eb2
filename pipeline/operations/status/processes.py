"""How each process of the application fares: who runs it, what waits for it, what is parked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pipeline.eventstore import EventStore, HistoryLost
from pipeline.model.events import SLOTS
from pipeline.model.process import Process
from pipeline.support.logs import moment

_MOST: Final = 10_000
_SECONDS: Final = 5.0
_PARKED: Final = 100


@dataclass(frozen=True, slots=True)
class ParkedInstance:
    """`version`: of the last event that it reacted to."""

    id: str
    version: int
    since: str
    attempts: int
    retry: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """`owner`: the worker that ran it last; None if none has. `read`: the part of the slots whose
    old events it has reacted to, 1 when it follows. `lag_events` and `lag_seconds`: of the events
    that it has yet to react to, None if it must read all events again. `overdue`: deadlines that
    have come, and attempts. `parked`: the longest parked instances, a hundred at most."""

    process: str
    owner: str | None
    read: float
    lag_events: int | None
    lag_seconds: float | None
    overdue: int
    parked: Sequence[ParkedInstance]


async def process_status(store: EventStore, process: Process[Any]) -> ProcessStatus:
    """Raises `StoreUnavailable`."""
    states, now = store.processes, await store.processes.now()
    position = await states.position(process.name)
    lag_events, lag_seconds = await _lag(store, process, position.get("token"))
    return ProcessStatus(
        process.name,
        position.get("owner"),
        position.get("slot", 0) / SLOTS,
        lag_events,
        lag_seconds,
        await states.overdue(process.name, now, _MOST),
        [_parked(each) for each in await states.parked([process.name], _PARKED)],
    )


async def _lag(
    store: EventStore, process: Process[Any], token: str | None
) -> tuple[int, float] | tuple[None, None]:
    if token is None:
        return None, None
    try:
        backlog = await store.change_backlog(
            token, most=_MOST, seconds=_SECONDS, kinds=process.kinds
        )
    except HistoryLost:
        return None, None
    if not backlog.events:
        return 0, 0.0
    oldest = min(each["created_at"] for each in backlog.events).replace(tzinfo=UTC)
    return len(backlog.events), max(0.0, (datetime.now(UTC) - oldest).total_seconds())


def _parked(document: dict[str, Any]) -> ParkedInstance:
    parked = document["parked"]
    return ParkedInstance(
        document["aggregate_id"],
        document["version"],
        moment(parked["since"].replace(tzinfo=UTC).timestamp()),
        parked["attempts"],
        moment(parked["retry"].replace(tzinfo=UTC).timestamp()),
        parked["reason"],
    )
