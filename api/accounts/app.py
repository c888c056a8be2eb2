"""Wires the account service; no other module of it does."""

from aiohttp import web

from api import account_events
from api.accounts import reading
from api.accounts.refusals import translate
from api.accounts.routes import SERVICE, routes
from api.accounts.service import AccountService
from api.commands.app import command_service
from pipeline.banking.application import BANK
from pipeline.commands import connection_to
from pipeline.support.settings import Settings


def create_app(settings: Settings) -> web.Application:
    """The service on these settings. To be called in the event loop that will run it.

    Raises `SettingsError` where the application is not the bank.
    """
    bank = connection_to(BANK, settings)
    every_route = [*routes, *reading.routes, account_events.route(lambda: bank.store)]
    app = command_service(settings, bank, every_route, translate)
    app[SERVICE] = AccountService(bank.service)
    return app
