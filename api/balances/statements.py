"""`GET /{id}/statement`: what happened to an account, with the balance after each entry."""

import re
from typing import Annotated, Final

from aiohttp import web
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from api.balances import queries
from api.balances.queries import Limit
from api.balances.routes import INDEX
from api.inputs import ACCOUNT_ID, Input, query
from api.moments import Moment
from api.replies import reply
from pipeline.events import KINDS
from pipeline.index.statements import Statements, Wanted

STATEMENTS: Final = web.AppKey("statements", Statements)

routes = web.RouteTableDef()


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if not KINDS.issuperset(kinds):
        raise PydanticCustomError("kind", f"Must be some of {', '.join(sorted(KINDS))}")
    return kinds


def _version(text: str) -> int:
    if not re.fullmatch("[0-9]{1,15}", text):
        raise PydanticCustomError("version", "Must be the version of the last page's last entry")
    return int(text)


class StatementQuery(Input):
    """The parameters of `GET /{id}/statement`; `until` is not in it. Newest first, unless told."""

    kind: Annotated[tuple[str, ...], BeforeValidator(_kinds)] = ()
    since: Moment | None = None
    until: Moment | None = None
    sort: Annotated[str, Field(pattern="^-?version$")] = "-version"
    limit: Limit = 20
    starting_after: Annotated[int, BeforeValidator(_version)] | None = None


@routes.get(f"/{{id:{ACCOUNT_ID}}}/statement")
async def statement(request: web.Request) -> web.Response:
    account_id, asked = request.match_info["id"], query(request, StatementQuery)
    wanted = Wanted(
        asked.kind,
        asked.since,
        asked.until,
        asked.starting_after,
        asked.sort == "-version",
        asked.limit,
    )
    entries, has_more = await request.app[STATEMENTS].page(account_id, wanted)
    if not entries:
        await queries.document(request.app[INDEX], account_id)  # no such account is no empty one
    return reply({"data": entries, "has_more": has_more})
