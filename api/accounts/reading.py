"""The routes of reading: an account as it is, as it was, and what happened to it."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from api.accounts.answers import answer
from api.accounts.routes import SERVICE
from api.inputs import ACCOUNT_ID, Input, query
from api.moments import Moment
from api.replies import reply

MOST: Final = 1000
_LARGEST: Final = 2**31

routes = web.RouteTableDef()


def _whole_number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text):
        raise PydanticCustomError("number", "Must be a whole number")
    return int(text)


Number = Annotated[int, BeforeValidator(_whole_number)]


class PastQuery(Input):
    """The parameters of `GET /{id}`, at most one of them: which past is asked for."""

    version: Annotated[Number, Field(ge=1, le=_LARGEST)] | None = None
    at: Moment | None = None

    @field_validator("at")
    @classmethod
    def _alone(cls, at: datetime | None, info: ValidationInfo) -> datetime | None:
        if at is not None and info.data.get("version") is not None:
            raise PydanticCustomError("both", "Give either a version or a time")
        return at


class EventsQuery(Input):
    """The parameters of `GET /{id}/events`."""

    after: Annotated[Number, Field(ge=0, le=_LARGEST)] = 0
    limit: Annotated[Number, Field(ge=1, le=MOST)] = 100


@routes.get(f"/{{id:{ACCOUNT_ID}}}")
async def get(request: web.Request) -> web.Response:
    account_id, past = request.match_info["id"], query(request, PastQuery)
    service = request.app[SERVICE]
    if past.version is not None:
        return answer(await service.histories.at_version(account_id, past.version))
    if past.at is not None:
        return answer(await service.histories.at_time(account_id, past.at))
    return answer(await service.get(account_id))


@routes.get(f"/{{id:{ACCOUNT_ID}}}/events")
async def events(request: web.Request) -> web.Response:
    """The events as they are stored, in whatever form they once were."""
    wanted = query(request, EventsQuery)
    page = await request.app[SERVICE].histories.events(
        request.match_info["id"], wanted.after, wanted.limit
    )
    document: dict[str, Any] = {"data": page.events, "has_more": page.has_more}
    return reply(document)
