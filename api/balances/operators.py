"""`GET /audit` and `GET /settings`: who did what, and what this service was told, for operators."""

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from api.balances.connections import CONNECTIONS
from api.http.inputs import FROM_TEXT, Input, query
from api.http.operations import json, operation
from api.http.replies import reply
from api.http.shapes import All
from api.security.access import OPERATOR, allowed
from pipeline.operations import audit
from pipeline.operations.audit import Action, AuditLine
from pipeline.support.settings import Settings, describe

MOST: Final = 1000

SETTINGS: Final = web.AppKey("settings", Settings)

routes = web.RouteTableDef()


class AuditQuery(Input):
    """The parameters of `GET /audit`."""

    limit: Annotated[int, Field(ge=1, le=MOST), FROM_TEXT] = 100
    """So many lines of each action at most."""
    action: Action | None = None
    """The lines of this action alone."""


class Setting(TypedDict):
    """A setting as `bank settings` shows it; secrets are masked."""

    name: str
    value: str
    default: str
    meaning: str


@routes.get("/audit")
@allowed(OPERATOR)
@operation(json(All[AuditLine]), "pipeline-unavailable", query=AuditQuery)
async def audit_lines(request: web.Request) -> web.Response:
    """The last lines of the audit log, the newest first: of each action, so that a flood of refused
    keys hides nothing else."""
    asked = query(request, AuditQuery)
    async with request.app[CONNECTIONS].jetstream() as js:
        actions = [asked.action] if asked.action else audit.ACTIONS
        lines = await audit.newest(js, asked.limit, actions)
    return reply({"data": lines}, headers={"Cache-Control": "no-store"})


@routes.get("/settings")
@allowed(OPERATOR)
@operation(json(All[Setting]))
async def settings(request: web.Request) -> web.Response:
    """The settings of this service, with their meaning; secrets are masked."""
    found = [each._asdict() for each in describe(request.app[SETTINGS])]
    return reply({"data": found}, headers={"Cache-Control": "no-store"})
