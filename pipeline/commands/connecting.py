"""Connects to the event store of an application, to execute commands from any program.

async with connect(POST) as post:
    done = await post.execute("parcel", parcel_id, Scan("Porto"), key="k1")
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from pipeline.application import Application
from pipeline.commands.command_store import CommandStore
from pipeline.commands.connection import Connection
from pipeline.eventstore import EventStore
from pipeline.support.settings import PREFIX, Settings, SettingsError, load

OPEN_SECONDS: Final = 60.0

_APPLICATION: Final = f"{PREFIX}APPLICATION"
_DATABASE: Final = f"{PREFIX}MONGODB_DATABASE"


@asynccontextmanager
async def connect(
    application: Application,
    settings: Settings | None = None,
    *,
    store: CommandStore | None = None,
    patience: float = OPEN_SECONDS,
) -> AsyncIterator[Connection]:
    """An open connection to the application's event store, which is closed at the end.

    `settings`: by default those of the environment, which need not name the application unless they
    name the database. With a `store` none are read.

    Raises `SettingsError` where the settings are of another application, and `StoreUnavailable`
    where the store can't be opened within the `patience`, in seconds.
    """
    if store is None:
        connection = connection_to(application, settings)
    else:
        connection = Connection(application, store)
    try:
        await connection.opened(patience)
        async with connection.watched():
            yield connection
    finally:
        await connection.close()


def connection_to(application: Application, settings: Settings | None = None) -> Connection:
    """One whose store is yet to be opened. Raises `SettingsError`."""
    if settings is None:
        settings = _of_environment(application)
    elif settings.names != application.names:
        raise _of_another(application, settings)
    store = EventStore(settings.mongodb, settings.mongodb_database)
    chains, encryption = settings.chains == "on", settings.encryption == "on"
    return Connection(application, store, begin_chains=chains, encrypt=encryption)


def _of_environment(application: Application) -> Settings:
    """Those of the environment. Where that names no application, a database that it names is the
    bank's, and by default it is the application's."""
    environ: Mapping[str, str] = {name: text for name, text in os.environ.items() if text.strip()}
    settings = load({_DATABASE: application.names.database, **environ})
    if settings.names != application.names:
        if _APPLICATION in environ:
            raise _of_another(application, settings)
        if _DATABASE in environ:
            raise SettingsError(f"{_DATABASE}: set {_APPLICATION}, too, or it is the bank's")
    return settings


def _of_another(application: Application, settings: Settings) -> SettingsError:
    return SettingsError(
        f"{_APPLICATION}: it is {settings.application}, which is not {application.name}"
    )
