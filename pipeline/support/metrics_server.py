"""A role's `/metrics`, `/livez` (it runs) and `/readyz` (it can work) over HTTP.

The services add the first to their own routes; forwarder and worker have a small listener. Where
several processes are one role, each answers for all of them (`group_answers.py`).
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web
from aiohttp.hdrs import ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE
from aiohttp.typedefs import Handler, Middleware

from pipeline.support.group_answers import answering_as_one, exposition
from pipeline.support.http_connections import HttpConnections
from pipeline.support.http_server import Runner
from pipeline.support.listening import AllowedHosts, listen
from pipeline.support.metrics import Metrics, RefusedRequests
from pipeline.support.readiness import Checks, readiness, show_readiness, worded
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

_PROBES: Final = frozenset({"/livez", "/readyz"})
_GRACE: Final = 0.5
"""Seconds that a started answer gets when the role ends."""


class Keys(Protocol):
    """The keys that the metrics ask for."""

    def refusal(self, authorization: str) -> int | None:
        """The HTTP status of a refusal; None if who sent this header may read them."""


def metrics_route(metrics: Metrics) -> web.RouteDef:
    """`GET /metrics`, in whichever of its formats Prometheus asks for."""

    async def scrape(request: web.Request) -> web.Response:
        text, content_type = await exposition(metrics, request.headers.get(ACCEPT, ""))
        return web.Response(body=text, headers={CONTENT_TYPE: content_type})

    return web.get("/metrics", scrape)


@asynccontextmanager
async def exposed(
    settings: Settings, metrics: Metrics, checks: Checks, keys: Keys | None = None
) -> AsyncIterator[str]:
    """Listen while the body runs, whose value is the URL. Raises `CannotListen`.

    If the settings ask for keys, the metrics are for those whom `keys` let in; without it for
    nobody. Probes need none.
    """
    metrics.names = settings.names
    show_readiness(metrics, checks)
    hosts = AllowedHosts(settings)
    check = _guard(keys) if settings.keys == "on" else _by_host(hosts)
    app = web.Application(middlewares=[_counting(RefusedRequests(metrics.registry)), check])
    of_all = answering_as_one(app, metrics, checks)
    app.add_routes([metrics_route(metrics), web.get("/livez", _live), _readiness(of_all)])
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


def _counting(refused: RefusedRequests) -> Middleware:
    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        refused.note(response.status)
        return response

    return count


def _by_host(hosts: AllowedHosts) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not hosts.admit(request):
            return web.json_response({"detail": hosts.WHY}, status=403)
        return await handler(request)

    return check


def _guard(keys: Keys | None) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _PROBES:
            return await handler(request)
        given = request.headers.getall(AUTHORIZATION, [])
        status = 503 if keys is None else keys.refusal(given[0] if len(given) == 1 else "")
        if status is None:
            return await handler(request)
        headers = {WWW_AUTHENTICATE: 'Bearer realm="bank"'} if status == 401 else None
        detail = f"{HTTPStatus(status).phrase}: metrics take the key of a viewer or an operator."
        return web.json_response({"detail": detail}, status=status, headers=headers)

    return check


async def _live(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _readiness(checks: Checks) -> web.RouteDef:
    async def ready(_: web.Request) -> web.Response:
        failed, warnings = await readiness(checks)
        if failed:
            detail = worded("Waiting for", failed)
            return web.json_response({"detail": detail, "missing": list(failed)}, status=503)
        told = {"warnings": list(warnings.values())} if warnings else {}
        return web.json_response({"status": "ok", **told})

    return web.get("/readyz", ready)
