"""Runs a service: builds its application, serves until a signal, stops gracefully."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final
from weakref import WeakSet

from aiohttp import web
from aiohttp.typedefs import Handler

from api import health
from api.http import correlation, heads, metrics, problems
from api.http import tracing as spans
from api.http.inputs import BODY_SECONDS, MAX_BODY
from api.http.operations import Answer, operation
from api.http.problem_types import ProblemType
from api.http.streams import STREAMS, Streams
from api.openapi import routes as describing
from api.openapi.routes import CONTRACT, Contract
from api.security import csrf
from api.security.access import OBSERVERS, allowed
from api.security.audit import AUDIT, AuditTrail
from api.security.guard import Guard
from pipeline.messaging.instances import answering
from pipeline.model.names import BANK
from pipeline.support import event_loop, garbage_collection, logs, tracing
from pipeline.support.addresses import CannotListen, check_guarded
from pipeline.support.group_answers import answering_as_one
from pipeline.support.http_connections import HttpConnections
from pipeline.support.http_server import Runner
from pipeline.support.listening import AllowedHosts, listen
from pipeline.support.metrics import Metrics
from pipeline.support.metrics_server import metrics_route
from pipeline.support.readiness import Checks, show_readiness
from pipeline.support.self_report import SelfReport
from pipeline.support.settings import Settings, SettingsError, load
from pipeline.support.stopping import ROLE_GRACE, leave_threads, leave_within

log = logging.getLogger(__name__)

GRACE: Final = 12.0
"""Seconds in which current requests must finish after a stop signal; requests that come meanwhile
on open connections get the rest of `ROLE_GRACE`. Longer than an append may take to learn its
outcome."""

CONNECTIONS: Final = web.AppKey("connections", HttpConnections)
_UNDER_WAY: Final = web.AppKey("under_way", WeakSet[asyncio.Task[object]])


def application(
    settings: Settings,
    routes: Iterable[web.AbstractRouteDef],
    checks: Checks,
    translate: problems.Translate,
    measured: Metrics,
    own_problems: Iterable[ProblemType] = (),
    commands: Callable[[], Mapping[str, float]] | None = None,
) -> web.Application:
    """The parts that all services share: problem documents, correlation ids, keys, health,
    metrics, a limit on bodies, and the OpenAPI contract of their routes. `measured` has the
    service's own collectors; those of requests and checks are added. `own_problems`: types of
    problems that only this one has. `commands`: how many it has executed, by outcome, if it takes
    commands."""
    requests = metrics.Requests(measured.registry)
    connections, trail = HttpConnections(settings), AuditTrail(settings, measured.role)
    for each in (connections, trail):
        measured.register(each)
    guard = Guard(settings, trail) if settings.keys == "on" else None
    if guard is not None:
        checks = {**checks, "keys": guard.keyring.ping}
    measured.names = settings.names
    show_readiness(measured, checks)
    by_head = [] if guard else [csrf.by_host(AllowedHosts(settings)), csrf.same_site]
    app = web.Application(
        middlewares=[
            _note,
            metrics.middleware(requests),
            correlation.middleware,
            *spans.middlewares(),
            problems.middleware(translate, [heads.check, *by_head]),
            *([guard.middleware] if guard else []),
        ],
        client_max_size=MAX_BODY,
    )
    app[_UNDER_WAY], app[CONNECTIONS] = WeakSet(), connections
    # Half: whoever only asks must be let in, too.
    app[STREAMS] = Streams(connections.most // 2)
    app[BODY_SECONDS] = settings.http_body_seconds
    app.on_shutdown.append(_end_streams)
    app[AUDIT], app[problems.TRANSLATE] = trail, translate
    app.cleanup_ctx.append(_within(trail.kept))
    if guard is not None:
        app.cleanup_ctx.append(_within(guard.following))
    # Each process of a group answers for itself here, and for all of them over HTTP.
    report = SelfReport(measured.role, requests.work(commands), checks)
    app.cleanup_ctx.append(_within(partial(answering, settings, report)))
    checks = answering_as_one(app, measured, checks)
    shared = [*health.routes(checks), _described(metrics_route(measured)), *describing.routes]
    app.add_routes([*shared, *routes])
    title = f"The {measured.role} service"
    if (names := settings.names) != BANK:
        title = f"{names.title}: {title[0].lower()}{title[1:]}"
    app[CONTRACT] = Contract(title, app.router, own_problems, names)
    return app


def run(role: str, create_app: Callable[[Settings], web.Application]) -> None:
    """Serve until SIGTERM or SIGINT. `SystemExit` with a message when it can't even start."""
    try:
        settings = load()
        check_guarded(settings)
        logs.setup(settings, role)
        tracing.setup(settings, role)
        event_loop.run(_main(role, create_app, settings))
    except (SettingsError, CannotListen) as error:
        raise SystemExit(str(error)) from None


async def _main(
    role: str, create_app: Callable[[Settings], web.Application], settings: Settings
) -> None:
    garbage_collection.run_seldom()
    stopping = _stop_signal()
    # One line for each request is for debugging; the figures of a running service are its metrics.
    access_log = logging.getLogger("aiohttp.access") if settings.log_level == "DEBUG" else None
    if settings.keys != "on":
        log.info("keys are off: whoever reaches %s may do anything", settings.host)
    app = create_app(settings)
    runner = Runner(
        app,
        app[CONNECTIONS],
        grace=GRACE,
        access_log_class=correlation.Access,
        access_log=access_log,
    )
    await runner.setup()
    try:
        port = getattr(settings, f"{role}_port")
        who, setting = f"The {role} service", f"{role}_port"
        log.info("listening on %s", await listen(runner, settings.host, port, who, setting))
        await stopping.wait()
        log.info("stopping: finishing what is under way")
        await _end_streams(app)
        await _finish(runner, app[_UNDER_WAY])
    finally:
        await runner.cleanup()
        if stopping.is_set():
            leave_threads()


@web.middleware
async def _note(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Remember the task of each request; it ends when the answer is sent."""
    task = asyncio.current_task()
    assert task is not None
    request.app[_UNDER_WAY].add(task)
    return await handler(request)


def _described(metrics_route: web.RouteDef) -> web.RouteDef:
    texts = {"text/plain": str, "application/openmetrics-text": str}
    operation(Answer(texts), about="The metrics, for Prometheus.")(metrics_route.handler)
    allowed(*OBSERVERS)(metrics_route.handler)
    return metrics_route


def _within(
    block: Callable[[], AbstractAsyncContextManager[None]],
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Has the application run inside the block."""

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        async with block():
            yield

    return lifetime


async def _end_streams(app: web.Application) -> None:
    """End the event streams, which would never end by themselves."""
    app[STREAMS].stop()


async def _finish(runner: web.AppRunner, under_way: WeakSet[asyncio.Task[object]]) -> None:
    """Accept no new connection, and answer the current requests.

    This comes before aiohttp's own clean-up, which stops reading: it would cut off a body that is
    half received.
    """
    for site in list(runner.sites):
        await site.stop()
    if tasks := [task for task in under_way if not task.done()]:
        await asyncio.wait(tasks, timeout=GRACE)


def _stop_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second one ends the process at once."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        stopping.set()
        leave_within(ROLE_GRACE)
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        loop.add_signal_handler(number, stop)
    return stopping
