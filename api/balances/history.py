"""`GET /{id}/history`: an account in time, the state before and after each of its events.

It is the fold by which commands are decided, run again on what is stored: nothing else remembers
what an account was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from api.account_events import MOST_VERSIONS, no_account
from api.account_states import NOT_THEN, PastTime, ShownAccount, shown
from api.balances.connections import Connections
from api.http.inputs import FROM_TEXT, Input, query
from api.http.operations import json, operation
from api.http.problems import Problem, unavailable
from api.http.replies import reply
from api.http.shapes import Page, paged, readable
from api.security.access import READERS, allowed
from api.security.customer_view import CustomerEvent, for_customer, visible_events
from pipeline.banking.account import ACCOUNT, Account
from pipeline.commands import (
    AggregateNotFound,
    AggregateUnreadable,
    NotBegunYet,
    VersionNotFound,
)
from pipeline.commands.histories import Histories
from pipeline.eventstore import EventStore
from pipeline.model.events import ACCOUNT_ID, Event
from pipeline.model.versioned import Versioned, evolve, initial

MOST: Final = 100

State = Versioned[Account] | AggregateUnreadable
"""Of an account after some events, or why there is none."""

routes = web.RouteTableDef()


class Step(TypedDict):
    """What one event made of an account; `before` is null for the first one.

    From an event on that can't be folded, whose version is `unreadable_from`, `after` is null, and
    `unreadable` says why.
    """

    version: int
    event: readable(Event) | CustomerEvent  # type: ignore[valid-type]
    before: ShownAccount | None
    after: ShownAccount | None
    unreadable: str | None
    unreadable_from: int | None


class HistoryQuery(Input):
    """The parameters of `GET /{id}/history`; of `version` and `at` at most one."""

    version: Annotated[int, Field(ge=1, le=MOST_VERSIONS), FROM_TEXT] | None = None
    """Steps up to the one that made this version; `next` of the page before."""
    at: PastTime | None = None
    """Steps up to the last one that had happened by that time; a `+` in it is written `%2B`."""
    limit: Annotated[int, Field(ge=1, le=MOST), FROM_TEXT] = 20
    """So many at most."""


class AccountHistory:
    """Folds accounts as they were, for the service's lifetime."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def steps(self, account_id: str, wanted: HistoryQuery) -> list[Step]:
        """The steps up to what is wanted, the newest first."""
        last = await self._last(account_id, wanted)
        first = max(0, last - wanted.limit)
        state = await self._at(account_id, first)
        steps: list[Step] = []
        async for events in self._store.walk(account_id, after=first, to=last):
            for event in events:
                before, state = state, _evolved(state, event)
                steps.append(_step(before, event, state))
        if not steps or steps[-1]["version"] < last:
            raise VersionNotFound(aggregate_id=account_id)
        return steps[::-1]

    async def _at(self, account_id: str, version: int) -> State:
        if not version:
            return initial(ACCOUNT, account_id)
        try:
            return await self._histories.at_version(account_id, version)
        except AggregateUnreadable as error:
            return error

    async def _last(self, account_id: str, wanted: HistoryQuery) -> int:
        """The version of the last step; `AggregateNotFound` if there is no such account."""
        if wanted.at is not None:
            return (await self._histories.at_time(account_id, wanted.at)).version
        head = await self._store.head(account_id)
        if not head:
            raise AggregateNotFound(aggregate_id=account_id)
        return wanted.version or head

    @cached_property
    def _histories(self) -> Histories[Account]:
        return Histories(ACCOUNT, self._store)

    @property
    def _store(self) -> EventStore:
        return self._connections.store


def _evolved(state: State, event: Event) -> State:
    if isinstance(state, AggregateUnreadable):
        return state
    try:
        return evolve(ACCOUNT, state, event)
    except AggregateUnreadable as error:
        return error


def _step(before: State, event: Event, after: State) -> Step:
    cause = after if isinstance(after, AggregateUnreadable) else None
    return {
        "version": event["version"],
        "event": visible_events([event])[0],
        "before": _shown(before),
        "after": _shown(after),
        "unreadable": _why(cause) if cause else None,
        "unreadable_from": cause.version if cause else None,
    }


def _shown(state: State) -> ShownAccount | None:
    if isinstance(state, AggregateUnreadable) or not state.version:
        return None
    return shown(state)


def _why(error: AggregateUnreadable) -> str:
    """In words, to a customer without the event, which the error quotes as it is stored."""
    why = "An event of the account can't be folded here."
    return why if for_customer() else f"{why} {error}"


HISTORY: Final = web.AppKey("history", AccountHistory)


@routes.get(f"/{{id:{ACCOUNT_ID}}}/history")
@allowed(*READERS, own="id")
@operation(
    json(Page[Step]),
    "account-not-found",
    "version-not-found",
    "account-unreadable",
    "store-unavailable",
    query=HistoryQuery,
)
async def history(request: web.Request) -> web.Response:
    """The account in time: each event with the state before and after it, the newest first."""
    account_id, wanted = request.match_info["id"], query(request, HistoryQuery)
    with _problems():
        steps = await request.app[HISTORY].steps(account_id, wanted)
    earlier = steps[-1]["version"] - 1
    return reply(paged(steps, str(earlier) if earlier else None))


@contextmanager
def _problems() -> Iterator[None]:
    try:
        yield
    except AggregateNotFound as error:
        raise no_account(error.aggregate_id) from error
    except (NotBegunYet, VersionNotFound) as error:
        (status, kind, detail), account = NOT_THEN[type(error)], error.aggregate_id
        raise Problem(status, kind, detail.format(account), account=account) from error
    except AggregateUnreadable as error:
        raise unavailable("account-unreadable", _why(error), account=error.aggregate_id) from error
