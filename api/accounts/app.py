"""Wires the account service; no other module of it does."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from api import account_events
from api.accounts import reading
from api.accounts.outcomes import OUTCOMES, outcomes_counter
from api.accounts.refusals import translate
from api.accounts.routes import SERVICE, routes
from api.accounts.service import AccountService
from api.server import application
from pipeline.commands import CommandService, StoreUnavailable, StoreUnguarded
from pipeline.eventstore import EventStore
from pipeline.model.names import BANK
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.metrics import Metrics
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings, SettingsError

log = logging.getLogger(__name__)

WATCH_SECONDS: Final = 2.0
"""Between two looks at the guards of the event store while no command is executed."""


def create_app(settings: Settings) -> web.Application:
    """The service on these settings. To be called in the event loop that will run it.

    Raises `SettingsError` where the application is not the bank.
    """
    if settings.names != BANK:
        raise SettingsError("BANK_APPLICATION: the account service is the bank's alone")
    store = EventStore(settings.mongodb, settings.mongodb_database)
    service = AccountService(store, begin_chains=settings.chains == "on")

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        watching = asyncio.create_task(_watch(service.commands))
        yield
        await cancel_and_wait(watching)
        await store.close()

    metrics = Metrics("accounts")
    every_route = [*routes, *reading.routes, account_events.route(lambda: store)]
    checks = {"mongodb": service.commands.ping, "guards": service.commands.guarded}
    app = application(settings, every_route, checks, translate, metrics)
    app[SERVICE], app[OUTCOMES] = service, outcomes_counter(metrics.registry)
    app.cleanup_ctx.append(lifetime)
    return app


async def _watch(commands: CommandService) -> None:
    """Open the service, however long MongoDB takes to appear, and watch the store's guards.

    Until it is opened, and while a guard is missing, it answers commands with 503.
    """
    failures = (StoreUnavailable, StoreUnguarded)
    outage = Outage(log, "The guards of the event store", most=WATCH_SECONDS)
    await outage.every(WATCH_SECONDS, commands.watch, failures)
