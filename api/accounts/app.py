"""The one place that wires the account service together."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web

from api.accounts.refusals import translate
from api.accounts.routes import SERVICE, routes
from api.accounts.service import AccountService
from api.server import application
from pipeline.eventstore import EventStore
from pipeline.settings import Settings

log = logging.getLogger(__name__)


def create_app(settings: Settings) -> web.Application:
    """The service on these settings. To be called in the event loop that will run it."""
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    service = AccountService(store)

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        opening = asyncio.create_task(_open(service))
        yield
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await opening
        await store.close()

    app = application(routes, {"mongodb": service.ping}, translate)
    app[SERVICE] = service
    app.cleanup_ctx.append(lifetime)
    return app


async def _open(service: AccountService) -> None:
    """Open the service, however long MongoDB takes to appear; until then it answers 503."""
    pause, told = 0.1, False
    while True:
        try:
            await service.open()
            break
        except Exception as error:
            if not told:
                log.warning("the event store can't be used yet, trying on: %.200s", error)
            told = True
        await asyncio.sleep(pause)
        pause = min(pause * 2, 5.0)
    if told:
        log.info("the event store is there")
