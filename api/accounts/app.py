"""Wires the account service; no other module of it does."""

from collections.abc import AsyncIterator

from aiohttp import web

from api import account_events
from api.accounts import reading
from api.accounts.outcomes import OUTCOMES, outcomes_counter
from api.accounts.refusals import translate
from api.accounts.routes import SERVICE, routes
from api.accounts.service import AccountService
from api.server import application
from pipeline.banking.application import BANK
from pipeline.commands import connection_to
from pipeline.support.metrics import Metrics
from pipeline.support.settings import Settings


def create_app(settings: Settings) -> web.Application:
    """The service on these settings. To be called in the event loop that will run it.

    Raises `SettingsError` where the application is not the bank.
    """
    bank = connection_to(BANK, settings)

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        # Until the store is open, and while a guard is missing, commands are answered with 503.
        async with bank.watched():
            yield
        await bank.close()

    metrics = Metrics("accounts")
    every_route = [*routes, *reading.routes, account_events.route(lambda: bank.store)]
    checks = {"mongodb": bank.service.ping, "guards": bank.service.guarded}
    app = application(settings, every_route, checks, translate, metrics)
    app[SERVICE] = AccountService(bank.service)
    app[OUTCOMES] = outcomes_counter(metrics.registry)
    app.cleanup_ctx.append(lifetime)
    return app
