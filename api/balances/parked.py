"""The routes of parked accounts: list, show, retry, drop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Final
from urllib.parse import quote

from aiohttp import web

from api.balances.connections import Connections
from api.balances.projected import ProjectionQuery, projection_of
from api.http.headers import LOCATION
from api.http.operations import Answer, json, operation
from api.http.problems import Problem
from api.http.replies import reply
from api.http.shapes import Page
from api.security.access import OBSERVERS, OPERATOR, allowed
from api.security.audited import audited
from pipeline.tables.parked_accounts import ParkedAccount, ParkedAccountList

routes = web.RouteTableDef()


class ParkedAccounts:
    """The lists of parked accounts for the service's lifetime, one for each projection."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self._parked: dict[str, ParkedAccountList] = {}

    @asynccontextmanager
    async def now(self, request: web.Request) -> AsyncIterator[ParkedAccountList]:
        """The list as it is now, or problem 503 `pipeline-unavailable`."""
        projection = projection_of(request)
        async with self.connections.jetstream() as js:
            if projection.name not in self._parked:
                self._parked[projection.name] = ParkedAccountList(js, projection)
            parked = self._parked[projection.name]
            await parked.refresh()
            yield parked


PARKED: Final = web.AppKey("parked", ParkedAccounts)


@dataclass(frozen=True, slots=True)
class ParkedAndWaiting(ParkedAccount):
    """A parked account, and how many of its events wait."""

    waiting: int


_MAY_END: Final = ("projection-not-found", "pipeline-unavailable")


@routes.get("/parked")
@allowed(*OBSERVERS)
@operation(json(Page[ParkedAccount]), *_MAY_END, query=ProjectionQuery)
async def parked_accounts(request: web.Request) -> web.Response:
    """The accounts that wait, because one of their events can't be applied."""
    async with request.app[PARKED].now(request) as parked:
        return reply({"data": [asdict(each) for each in parked.all()], "has_more": False})


@routes.get("/parked/{id}")
@allowed(*OBSERVERS)
@operation(
    json(ParkedAndWaiting), "not-parked", "store-unavailable", *_MAY_END, query=ProjectionQuery
)
async def parked_account(request: web.Request) -> web.Response:
    """A parked account, and how many of its events wait."""
    async with request.app[PARKED].now(request) as parked:
        account = _found(parked, request)
    head = await request.app[PARKED].connections.store.head(account.account_id)
    waiting = max(head - account.version + 1, 0)
    return reply(asdict(ParkedAndWaiting(**asdict(account), waiting=waiting)))


@routes.post("/parked/{id}/retry")
@allowed(OPERATOR)
@audited("parked-retry")
@operation(
    json(ParkedAccount, LOCATION, status=202), "not-parked", *_MAY_END, query=ProjectionQuery
)
async def retry(request: web.Request) -> web.Response:
    """Ask for another try.

    The owner of the account's partition tries again, and the entry goes or says why not.
    """
    async with request.app[PARKED].now(request) as parked:
        account_id = request.match_info["id"]
        if not await parked.ask_retry(account_id):
            raise _not_parked(account_id)
        place = f"/parked/{quote(account_id, safe='')}"
        if asked := request.rel_url.raw_query_string:
            place += f"?{asked}"
        return reply(asdict(parked[account_id]), status=202, headers={"Location": place})


@routes.delete("/parked/{id}")
@allowed(OPERATOR)
@audited("parked-drop")
@operation(Answer({}, status=204), "not-parked", *_MAY_END, query=ProjectionQuery)
async def drop(request: web.Request) -> web.Response:
    """Take an account off the list as it is.

    Its document stays behind, and its next event may park it again.
    """
    async with request.app[PARKED].now(request) as parked:
        account_id = request.match_info["id"]
        if not await parked.drop(account_id):
            raise _not_parked(account_id)
        return web.Response(status=204)


def _found(parked: ParkedAccountList, request: web.Request) -> ParkedAccount:
    account_id = request.match_info["id"]
    if account_id not in parked:
        raise _not_parked(account_id)
    return parked[account_id]


def _not_parked(account_id: str) -> Problem:
    return Problem(404, "not-parked", f"No account {account_id} is parked.", account=account_id)
