"""Wires the command service; no other module of it does."""

from aiohttp import web

from api.aggregates.refusals import refusal_types, translate
from api.aggregates.routes import COMMANDS, joint_route, routes_of
from api.commands.app import command_service
from pipeline.commands import connection_to
from pipeline.support.settings import Settings, SettingsError


def create_app(settings: Settings) -> web.Application:
    """The service on these settings. To be called in the event loop that will run it.

    Raises `SettingsError` where the application has no aggregate, a command that HTTP can't take,
    or two refusals of one name.
    """
    application = settings.chosen
    if not application.aggregates:
        raise SettingsError(f"BANK_APPLICATION: {application.name} has no aggregate to command")
    try:
        refusals = refusal_types()
        names = [each.name for each in refusals]
        routes = [
            each for aggregate in application.aggregates for each in routes_of(aggregate, names)
        ]
        routes += [joint_route(each, names) for each in application.joints if each.commands]
    except TypeError as error:
        raise SettingsError(f"BANK_APPLICATION: {error}") from error
    connection = connection_to(application, settings)
    app = command_service(settings, connection, routes, translate, refusals)
    app[COMMANDS] = connection.service
    return app
