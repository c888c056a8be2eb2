"""`GET /events/{id}/{version}`: one event as it is stored, between those of its account before and
after it."""

from typing import Any, Final

from aiohttp import web
from typing_extensions import TypedDict

from api.account_events import MOST_VERSIONS
from api.balances.connections import CONNECTIONS
from api.http.operations import json, operation
from api.http.problems import Problem
from api.http.replies import reply
from api.http.shapes import readable
from api.security.access import READERS, allowed
from pipeline.model.events import AGGREGATE_ID, Event

StoredEvent: Any = readable(Event)

routes = web.RouteTableDef()


class Neighbours(TypedDict):
    """An event, and the one before and after it; null: the account has none."""

    event: StoredEvent
    before: StoredEvent | None
    after: StoredEvent | None


_PATH: Final = f"/events/{{id:{AGGREGATE_ID}}}/{{version:[1-9][0-9]{{0,9}}}}"


@routes.get(_PATH)
@allowed(*READERS)
@operation(json(Neighbours), "version-not-found", "store-unavailable")
async def neighbours(request: web.Request) -> web.Response:
    """One event of an account, or of another aggregate, and its neighbours there."""
    account_id, version = request.match_info["id"], int(request.match_info["version"])
    found = {}
    if version <= MOST_VERSIONS:
        store = request.app[CONNECTIONS].store
        page = await store.page(account_id, after=max(version - 2, 0), limit=3)
        found = {each["version"]: each for each in page}
    if version not in found:
        detail = f"{account_id} has no event of version {version}."
        raise Problem(404, "version-not-found", detail, account=account_id, version=version)
    around = {"before": found.get(version - 1), "after": found.get(version + 1)}
    return reply({"event": found[version], **around})
