"""`/livez` (the process runs) and `/readyz` (all it depends on answers), for both services."""

from aiohttp import web

from api.problems import unavailable
from api.replies import reply
from pipeline.readiness import Checks, missing


def routes(checks: Checks) -> list[web.RouteDef]:
    """Both routes. Not ready is a 503 problem whose `missing` names each dependency that failed."""

    async def live(_: web.Request) -> web.Response:
        return reply({"status": "ok"})

    async def ready(_: web.Request) -> web.Response:
        if names := await missing(checks):
            raise unavailable("not-ready", f"No answer from {', '.join(names)}.", missing=names)
        return reply({"status": "ok"})

    return [web.get("/livez", live), web.get("/readyz", ready)]
