"""Wires the account service; no other module of it does."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web

from api import account_events
from api.accounts import reading
from api.accounts.outcomes import OUTCOMES, Outcomes
from api.accounts.refusals import translate
from api.accounts.routes import SERVICE, routes
from api.accounts.service import AccountService
from api.server import application
from pipeline.eventstore import EventStore, StoreUnavailable
from pipeline.support.metrics import Metrics
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)


def create_app(settings: Settings) -> web.Application:
    """The service on these settings. To be called in the event loop that will run it."""
    store = EventStore(settings.mongodb, settings.mongodb_database)
    service = AccountService(store, begin_chains=settings.chains == "on")

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        opening = asyncio.create_task(_open(service))
        yield
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await opening
        await store.close()

    metrics, outcomes = Metrics("accounts"), Outcomes()
    metrics.register(outcomes)
    every_route = [*routes, *reading.routes, account_events.route(lambda: store)]
    checks = {"mongodb": service.ping}
    app = application(settings, every_route, checks, translate, metrics)
    app[SERVICE], app[OUTCOMES] = service, outcomes
    app.cleanup_ctx.append(lifetime)
    return app


async def _open(service: AccountService) -> None:
    """Open the service, however long MongoDB takes to appear; until then it answers 503."""
    await Outage(log, "the event store").retry_forever(service.open, StoreUnavailable)
