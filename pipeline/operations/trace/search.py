"""Finds the events of a correlation id without an index.

With an account, that account's events are read, the newest first, back to the time in the id if it
has one. Without an account, the events of a span of time are searched: around the time in an id
that the service made, or the one that is asked for.
"""

import asyncio
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
OnSpan = Callable[[datetime, datetime], object]

CLOCKS: Final = timedelta(minutes=1)
"""By how much the clocks of two machines may differ."""
REQUEST: Final = timedelta(minutes=10)
"""Longer than any request takes until its events are decided."""
_LAST: Final = timedelta(hours=1)
_LEG: Final = ("id", "counterparty")
_FIRST: Final = timedelta(minutes=1)
_GROWTH: Final = 8
_PAGE: Final = 1000


class Searched(Protocol):
    """The part of the event store that is read."""

    async def ping(self) -> None: ...

    async def correlated(
        self, correlation_id: str, since: datetime, until: datetime, *, seconds: float
    ) -> list[Event]: ...

    async def head(self, account_id: str) -> int: ...

    def walk(
        self, account_id: str, *, after: int = 0, to: int | None = None
    ) -> AsyncGenerator[list[Event], None]: ...


@dataclass(frozen=True, slots=True)
class FoundEvents:
    """The events, in order of their ids; `searched`: the span of time that was searched, None for
    a search by account. Not `complete`: the patience did not last for all of it."""

    events: list[Event]
    searched: Span | None
    complete: bool = True


async def search(
    store: Searched,
    correlation_id: str,
    *,
    account_id: str | None = None,
    since: datetime | None = None,
    patience: float,
    on_span: OnSpan = lambda since, until: None,
) -> FoundEvents:
    """The events of that account; without one, those of that time; without a time in the id either,
    those of the last hour. Raises `StoreUnavailable`."""
    await store.ping()  # fails fast; the search would wait for MongoDB for all of its patience
    if account_id is not None:
        return await of_account(store, correlation_id, account_id, patience)
    now = datetime.now(UTC)
    made = made_at(correlation_id)
    if since is None and (made is None or made - CLOCKS > now):
        since = now - _LAST
    return await by_time(store, correlation_id, since, now, patience, on_span)


async def of_account(
    store: Searched, correlation_id: str, account_id: str, patience: float
) -> FoundEvents:
    """The events of an account and of its transfers' counterparties. Raises `StoreUnavailable`."""
    events: dict[str, Event] = {}
    todo, seen = [account_id], set[str]()
    try:
        async with asyncio.timeout(patience):
            while todo:
                each = todo.pop()
                seen.add(each)
                async for event in _of(store, correlation_id, each):
                    events[event["_id"]] = event
                    if (transfer := transfer_of(event)) and transfer["counterparty"] not in seen:
                        todo.append(transfer["counterparty"])
    except TimeoutError:
        return FoundEvents(_sorted([*events.values()]), None, complete=False)
    return FoundEvents(_sorted([*events.values()]), None)


async def _of(store: Searched, correlation_id: str, account_id: str) -> AsyncGenerator[Event, None]:
    made = made_at(correlation_id)
    to, width = await store.head(account_id), _PAGE
    while to > 0:
        after = max(0, to - width)
        newest: datetime | None = None
        async with aclosing(store.walk(account_id, after=after, to=to)) as lists:
            async for events in lists:
                newest = max(filter(None, map(_created, events)), default=None)
                for event in events:
                    if event.get("correlation_id") == correlation_id:
                        yield event
        if made is not None and newest is not None and newest < made - CLOCKS:
            return
        # Where versions are missing, one walk of all the rest looks past them.
        to, width = after, _PAGE if newest else after


def _created(event: Event) -> datetime | None:
    at: object = event.get("created_at")
    return at.replace(tzinfo=UTC) if isinstance(at, datetime) else None


async def by_time(
    store: Searched,
    correlation_id: str,
    since: datetime | None,
    until: datetime,
    patience: float,
    on_span: OnSpan = lambda since, until: None,
) -> FoundEvents:
    """The events from `since`, or from the id's own time, until `until`. `on_span` is called with
    each span of time before it is searched.

    An id with a time in it was mostly made for one request: without `since` the search ends at the
    first span with events. Raises `StoreUnavailable`, and `ValueError` without a time to begin at.
    """
    made = made_at(correlation_id)
    begin = since or (made and made - CLOCKS)
    if begin is None or begin > until:
        raise ValueError("the id contains no time")
    own = since is None and made is not None
    deadline, events = time.monotonic() + patience, list[Event]()
    searched: Span | None = None
    for span in _forward(begin, until) if own else _back(begin, until):
        on_span(*span)
        try:
            left = max(0.1, deadline - time.monotonic())
            events += await store.correlated(correlation_id, *span, seconds=left)
        except TookTooLong:
            return FoundEvents(_sorted(events), searched, complete=False)
        searched = _union(searched, span)
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
    """The transfer of which the event is a leg; None if it is none, or malformed."""
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
    """From now back, in steps that grow: most searches are for something recent."""
    step = _FIRST
    while begin < until:
        start = max(begin, until - step)
        yield start, until
        until, step = start, step * _GROWTH


def _union(one: Span | None, other: Span) -> Span:
    return (min(one[0], other[0]), max(one[1], other[1])) if one else other


def _sorted(events: Sequence[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event["_id"])
