"""A role's `/metrics`, `/livez` (it runs) and `/readyz` (it can work) over HTTP.

The services add the first to their own routes; forwarder and worker have a small listener.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from aiohttp.hdrs import ACCEPT, CONTENT_TYPE
from aiohttp.typedefs import Handler, Middleware

from pipeline.support.http_connections import HttpConnections
from pipeline.support.http_server import Runner
from pipeline.support.listening import AllowedHosts, listen
from pipeline.support.metrics import Metrics
from pipeline.support.readiness import Checks, missing, show_readiness, worded
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

_GRACE: Final = 0.5
"""Seconds that a started answer gets when the role ends."""


def metrics_route(metrics: Metrics) -> web.RouteDef:
    """`GET /metrics`, in whichever of its formats Prometheus asks for."""

    async def scrape(request: web.Request) -> web.Response:
        text, content_type = await metrics.exposition(request.headers.get(ACCEPT, ""))
        return web.Response(body=text, headers={CONTENT_TYPE: content_type})

    return web.get("/metrics", scrape)


@asynccontextmanager
async def exposed(settings: Settings, metrics: Metrics, checks: Checks) -> AsyncIterator[str]:
    """Listen while the body runs, whose value is the URL. Raises `CannotListen`."""
    show_readiness(metrics, checks)
    hosts = AllowedHosts(settings)
    app = web.Application(middlewares=[] if settings.keys == "on" else [_by_host(hosts)])
    app.add_routes([metrics_route(metrics), web.get("/livez", _live), _readiness(checks)])
    connections = HttpConnections(settings)
    metrics.register(connections)
    runner = Runner(app, connections, grace=_GRACE, access_log=None)
    await runner.setup()
    try:
        address = await listen(
            runner,
            settings.host,
            settings.metrics_port,
            f"The metrics of the {metrics.role}",
            "metrics_port",
        )
        log.info("metrics on %s/metrics", address)
        yield address
    finally:
        await runner.cleanup()


def _by_host(hosts: AllowedHosts) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not hosts.admit(request):
            return web.json_response({"detail": hosts.WHY}, status=403)
        return await handler(request)

    return check


async def _live(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _readiness(checks: Checks) -> web.RouteDef:
    async def ready(_: web.Request) -> web.Response:
        if failed := await missing(checks):
            detail = worded("Waiting for", failed)
            return web.json_response({"detail": detail, "missing": list(failed)}, status=503)
        return web.json_response({"status": "ok"})

    return web.get("/readyz", ready)
