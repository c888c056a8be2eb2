"""`GET /{id}/events`: the events of an account, from the event store. Both services have it."""

from collections.abc import Callable
from typing import Annotated, Any, Final

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

    after: Annotated[int, Field(ge=0, le=MOST_VERSIONS), FROM_TEXT] = 0
    """Events above this version; `next` of the page before."""
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
        """What happened to the account: its events, in order of version.

        They are in the form in which they were stored, with personal fields in clear until they are
        forgotten. A customer sees no internal reason, and not who caused them with which request.
        """
        wanted = query(request, EventsQuery)
        return reply(await _page(store(), request.match_info["id"], wanted))

    return web.get(f"/{{id:{ACCOUNT_ID}}}/events", events)


async def _page(store: CommandStore, account_id: str, wanted: EventsQuery) -> dict[str, Any]:
    """The events that the request may see, and whether more follow; 404 `account-not-found`."""
    found = await store.page(account_id, after=wanted.after, limit=wanted.limit + 1)
    if not found and not (wanted.after and await store.page(account_id, after=0, limit=1)):
        detail = f"There is no account {account_id}."
        raise Problem(404, "account-not-found", detail, account=account_id)
    page = found[: wanted.limit]
    after = str(page[-1]["version"]) if len(found) > wanted.limit else None
    return paged(visible_events(page), after)
