"""Finding the events of a correlation id, with no index of it.

An account's events are read one by one. Else the time tells: that of an id that the service made,
or the one that is asked for; and the store is searched among the events of that time.
"""

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from ulid import ULID

from pipeline.banking.events import Transfer
from pipeline.eventstore import TookTooLong
from pipeline.model.events import Event

Span = tuple[datetime, datetime]

CLOCKS: Final = timedelta(minutes=1)
"""By how much the clocks of two machines may differ."""
REQUEST: Final = timedelta(minutes=10)
"""Longer than any request takes until its events are decided."""
_LEG: Final = ("id", "counterparty")
_FIRST: Final = timedelta(minutes=1)
_GROWTH: Final = 8


class Searched(Protocol):
    """What is needed of the event store."""

    async def correlated(
        self, correlation_id: str, since: datetime, until: datetime, *, seconds: float
    ) -> list[Event]: ...

    def walk(self, account_id: str) -> AsyncGenerator[list[Event], None]: ...


@dataclass(frozen=True, slots=True)
class FoundEvents:
    """The events, in order of their ids; `searched` are the times that they were looked for in,
    None for those of certain accounts. Unless `complete` there was no time for all of it."""

    events: list[Event]
    searched: Span | None
    complete: bool = True


async def of_account(store: Searched, correlation_id: str, account_id: str) -> FoundEvents:
    """Those of an account, and of the other one of a transfer. Raises `StoreUnavailable`."""
    events: dict[str, Event] = {}
    todo, seen = [account_id], set[str]()
    while todo:
        each = todo.pop()
        seen.add(each)
        async for event in _of(store, correlation_id, each):
            events[event["_id"]] = event
            if (transfer := transfer_of(event)) and transfer["counterparty"] not in seen:
                todo.append(transfer["counterparty"])
    return FoundEvents([events[each] for each in sorted(events)], None)


async def _of(store: Searched, correlation_id: str, account_id: str) -> AsyncGenerator[Event, None]:
    async with aclosing(store.walk(account_id)) as lists:
        async for events in lists:
            for event in events:
                if event.get("correlation_id") == correlation_id:
                    yield event


async def by_time(
    store: Searched,
    correlation_id: str,
    since: datetime | None,
    until: datetime,
    patience: float,
    tell: Callable[[datetime, datetime], object] = lambda since, until: None,
) -> FoundEvents:
    """Those made from `since`, or the id's own time, until then; `tell` hears where is searched.

    An id that tells its time was mostly made for one request: what is found about then is all that
    is looked for, unless `since` is told. Raises `StoreUnavailable`, and `ValueError` without any
    time to begin at.
    """
    made = made_at(correlation_id)
    begin = since or (made and made - CLOCKS)
    if begin is None or begin > until:
        raise ValueError("the id does not tell when it was made")
    own = since is None and made is not None
    deadline, events = time.monotonic() + patience, list[Event]()
    searched: Span | None = None
    for span in _forward(begin, until) if own else _back(begin, until):
        tell(*span)
        try:
            left = max(0.1, deadline - time.monotonic())
            events += await store.correlated(correlation_id, *span, seconds=left)
        except TookTooLong:
            return FoundEvents(_sorted(events), searched, complete=False)
        searched = _together(searched, span)
        if own and events:
            break
    return FoundEvents(_sorted(events), searched)


def made_at(correlation_id: str) -> datetime | None:
    """When the id was made, if it is a ULID, as those of the service are."""
    try:
        moment = datetime.fromtimestamp(ULID.from_str(correlation_id).timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment


def transfer_of(event: Event) -> Transfer | None:
    """Of which transfer the event is a leg; whatever a hand wrote there is none."""
    body: Any = event.get("body")
    transfer = body.get("transfer") if isinstance(body, dict) else None
    if isinstance(transfer, dict) and all(type(transfer.get(each)) is str for each in _LEG):
        return transfer  # type: ignore[return-value]
    return None


def _forward(begin: datetime, until: datetime) -> Iterator[Span]:
    middle = min(begin + CLOCKS + REQUEST, until)
    yield begin, middle
    if middle < until:
        yield middle, until


def _back(begin: datetime, until: datetime) -> Iterator[Span]:
    """From now back, in longer and longer steps: mostly it was not long ago."""
    step = _FIRST
    while begin < until:
        start = max(begin, until - step)
        yield start, until
        until, step = start, step * _GROWTH


def _together(one: Span | None, other: Span) -> Span:
    return (min(one[0], other[0]), max(one[1], other[1])) if one else other


def _sorted(events: Sequence[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event["_id"])
