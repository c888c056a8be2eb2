"""The route that reads an account, as it is or as it was."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from api.account_events import MOST_VERSIONS
from api.account_states import PastTime, ShownAccount
from api.accounts.answers import answer
from api.accounts.documentation import UNREADABLE
from api.accounts.routes import SERVICE
from api.http.headers import ETAG
from api.http.inputs import FROM_TEXT, Input, query
from api.http.operations import json, operation
from api.security.access import READERS, allowed
from pipeline.model.events import ACCOUNT_ID

routes = web.RouteTableDef()


class PastQuery(Input):
    """The parameters of `GET /{id}`, at most one of them: which past is asked for."""

    version: Annotated[int, Field(ge=1, le=MOST_VERSIONS), FROM_TEXT] | None = None
    """As its first so many events left it."""
    at: PastTime | None = None
    """As it was at that time; a `+` in it is written `%2B`."""


@routes.get(f"/{{id:{ACCOUNT_ID}}}")
@allowed(*READERS, own="id")
@operation(
    json(ShownAccount, ETAG),
    "account-not-found",
    "version-not-found",
    *UNREADABLE,
    query=PastQuery,
)
async def get(request: web.Request) -> web.Response:
    """The account as it is, or as it was.

    It is folded from the event store: who was answered by a command finds it here.
    """
    account_id, past = request.match_info["id"], query(request, PastQuery)
    service = request.app[SERVICE]
    if past.version is not None:
        return answer(await service.histories.at_version(account_id, past.version))
    if past.at is not None:
        return answer(await service.histories.at_time(account_id, past.at))
    return answer(await service.get(account_id))
