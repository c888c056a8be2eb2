"""`/livez` (the process runs) and `/readyz` (all it depends on answers), for both services."""

from typing import Literal

from aiohttp import web
from typing_extensions import TypedDict

from api.http.operations import json, operation
from api.http.problems import unavailable
from api.http.replies import reply
from api.security.access import open_to_all
from pipeline.support.readiness import Checks, missing, worded


class Health(TypedDict):
    """What is not well is a problem instead."""

    status: Literal["ok"]


def routes(checks: Checks) -> list[web.RouteDef]:
    """Both routes. Not ready is a 503 problem whose `missing` names each dependency that failed."""

    @open_to_all
    @operation(json(Health))
    async def live(_: web.Request) -> web.Response:
        """Whether the process runs."""
        return reply({"status": "ok"})

    @open_to_all
    @operation(json(Health), "not-ready")
    async def ready(_: web.Request) -> web.Response:
        """Whether all that the service depends on answers."""
        if failed := await missing(checks):
            detail = worded("No answer from", failed)
            raise unavailable("not-ready", detail, missing=list(failed))
        return reply({"status": "ok"})

    return [web.get("/livez", live), web.get("/readyz", ready)]
