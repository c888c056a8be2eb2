"""The routes of reading: an account as it is, as it was, and what happened to it."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from api.access import READERS, allowed
from api.accounts.answers import ShownAccount, answer
from api.accounts.described import UNREADABLE
from api.accounts.routes import SERVICE
from api.headers import ETAG
from api.inputs import Input, query
from api.moments import Moment
from api.operations import json, operation
from api.replies import reply
from api.shapes import Page, readable
from pipeline.events import ACCOUNT_ID, Event

MOST: Final = 1000
_LARGEST: Final = 2**31

routes = web.RouteTableDef()


def _whole_number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text):
        raise PydanticCustomError("number", "Must be a whole number")
    return int(text)


_FROM_TEXT: Final = BeforeValidator(_whole_number)


class PastQuery(Input):
    """The parameters of `GET /{id}`, at most one of them: which past is asked for."""

    version: Annotated[int, Field(ge=1, le=_LARGEST), _FROM_TEXT] | None = None
    """As its first so many events left it."""
    at: Moment | None = None
    """As it was at that time; a `+` in it is written `%2B`."""

    @field_validator("at")
    @classmethod
    def _alone(cls, at: datetime | None, info: ValidationInfo) -> datetime | None:
        if at is not None and info.data.get("version") is not None:
            raise PydanticCustomError("both", "Give either a version or a time")
        return at


class EventsQuery(Input):
    """The parameters of `GET /{id}/events`."""

    after: Annotated[int, Field(ge=0, le=_LARGEST), _FROM_TEXT] = 0
    """Events above this version."""
    limit: Annotated[int, Field(ge=1, le=MOST), _FROM_TEXT] = 100
    """So many at most."""


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


@routes.get(f"/{{id:{ACCOUNT_ID}}}/events")
@allowed(*READERS, own="id")
@operation(
    json(Page[readable(Event)]),  # type: ignore[misc]
    "account-not-found",
    "store-unavailable",
    query=EventsQuery,
)
async def events(request: web.Request) -> web.Response:
    """What happened to the account: its events, in order of version.

    They are as they are stored, in whatever form they once were.
    """
    wanted = query(request, EventsQuery)
    page = await request.app[SERVICE].histories.events(
        request.match_info["id"], wanted.after, wanted.limit
    )
    document: dict[str, Any] = {"data": page.events, "has_more": page.has_more}
    return reply(document)
