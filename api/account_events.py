"""`GET /{id}/events`: the events of an account, from the event store. Both services have it."""

from collections.abc import Callable
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field

from api.http.inputs import FROM_TEXT, Input, query
from api.http.operations import json, operation
from api.http.problems import Problem
from api.http.replies import reply
from api.http.shapes import Page, paged, readable
from api.security.access import READERS, allowed
from api.security.customer_view import CustomerEvent, visible_events
from pipeline.commands import CommandStore
from pipeline.model.events import ACCOUNT_ID, Event

MOST: Final = 1000
MOST_VERSIONS: Final = 2**31


class EventsQuery(Input):
    """The parameters of `GET /{id}/events`."""

    after: Annotated[int, Field(ge=0, le=MOST_VERSIONS), FROM_TEXT] | None = None
    """Events behind this version in the order of the list; `next` of the page before."""
    sort: Literal["version", "-version"] = "version"
    """A leading `-` means the newest first: then `after` has the events below that version."""
    limit: Annotated[int, Field(ge=1, le=MOST), FROM_TEXT] = 100
    """So many at most."""


def route(store: Callable[[], CommandStore]) -> web.RouteDef:
    """The route on an event store. `store` is called at a request: it may connect only then."""

    @allowed(*READERS, own="id")
    @operation(
        json(Page[readable(Event)] | Page[CustomerEvent]),  # type: ignore[misc]
        "account-not-found",
        "store-unavailable",
        query=EventsQuery,
    )
    async def events(request: web.Request) -> web.Response:
        """What happened to the account: its events, in order of version, or the newest first.

        They are in the form in which they were stored, with personal fields in clear until they are
        forgotten. A customer sees no internal reason, and not who caused them with which request.
        """
        wanted, account_id = query(request, EventsQuery), request.match_info["id"]
        read = _newest_first if wanted.sort == "-version" else _oldest_first
        found, after = await read(store(), account_id, wanted)
        return reply(paged(visible_events(found), after))

    return web.get(f"/{{id:{ACCOUNT_ID}}}/events", events)


async def _oldest_first(
    store: CommandStore, account_id: str, wanted: EventsQuery
) -> tuple[list[Event], str | None]:
    """The page, and where the next one begins; 404 `account-not-found`."""
    found = await store.page(account_id, after=wanted.after or 0, limit=wanted.limit + 1)
    if not found and not (wanted.after and await store.page(account_id, after=0, limit=1)):
        raise no_account(account_id)
    page = found[: wanted.limit]
    return page, str(page[-1]["version"]) if len(found) > wanted.limit else None


async def _newest_first(
    store: CommandStore, account_id: str, wanted: EventsQuery
) -> tuple[list[Event], str | None]:
    """The same. A page is a range of versions: it has fewer events where versions are missing."""
    head = await store.head(account_id)
    if not head:
        raise no_account(account_id)
    end = head if wanted.after is None else min(head, wanted.after - 1)
    begin = max(0, end - wanted.limit)
    found = await store.page(account_id, after=begin, limit=end - begin) if end > begin else []
    page = [event for event in found if event["version"] <= end]
    return page[::-1], str(begin + 1) if begin else None


def no_account(account_id: str) -> Problem:
    return Problem(
        404, "account-not-found", f"There is no account {account_id}.", account=account_id
    )
