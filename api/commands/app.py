"""Wires a service that takes commands."""

from collections.abc import AsyncIterator, Iterable

from aiohttp import web

from api.commands.outcomes import OUTCOMES, Outcomes
from api.http.problem_types import ProblemType
from api.http.problems import Translate
from api.server import application
from pipeline.commands import Connection
from pipeline.support.metrics import Metrics
from pipeline.support.settings import Settings


def command_service(
    settings: Settings,
    connection: Connection,
    routes: Iterable[web.AbstractRouteDef],
    translate: Translate,
    problems: Iterable[ProblemType] = (),
) -> web.Application:
    """A service on the connection, which it opens and closes. `problems`: types of its own.

    Until the store is open, and while a guard is missing, commands are answered with 503.
    """

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        async with connection.watched():
            yield
        await connection.close()

    metrics, commands = Metrics("accounts"), connection.service
    checks = {"mongodb": commands.ping, "guards": commands.guarded}
    outcomes = Outcomes(metrics.registry)
    app = application(settings, routes, checks, translate, metrics, problems, outcomes.totals)
    app[OUTCOMES] = outcomes
    app.cleanup_ctx.append(lifetime)
    return app
