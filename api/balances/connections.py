"""The connections of the balance service beside Elasticsearch: JetStream and the event store.

Both connect at their first use, so documents are served while they are down.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property, partial
from typing import Final

from aiohttp import web
from nats.errors import Error as NatsError

from api.http.problems import unavailable
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream, JetStreamError, ServerTooOld, StorageFull, TooManyReplicas
from pipeline.messaging.connection import Refusals, log_reconnected
from pipeline.support.cancellation import close_all, close_opened
from pipeline.support.correlation import detached
from pipeline.support.retry import brief
from pipeline.support.server_answers import public
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

PATIENCE: Final = 2.0
"""Seconds in which JetStream must answer."""


class Connections:
    """Kept for the service's lifetime, and shared by its requests."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connecting: asyncio.Task[JetStream] | None = None
        self._refusals = Refusals(settings.nats)
        self.reconnected_at = 0.0
        """When JetStream's connection was last made again; what was published before got lost.
        Seconds since 1970."""

    @cached_property
    def store(self) -> EventStore:
        """The event store, whose every method may raise `StoreUnavailable`."""
        return EventStore(self._settings.mongodb, self._settings.mongodb_database)

    @asynccontextmanager
    async def jetstream(self) -> AsyncIterator[JetStream]:
        """JetStream, which has answered just now. It is always the same object.

        Problem 503 `pipeline-unavailable` if it does not answer, then or inside the block.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                js = await self.connected()
                await js.ping()
            yield js
        except (NatsError, JetStreamError, ServerTooOld, OSError) as error:
            log.debug("JetStream: %s", brief(error))
            why = public(error) or "does not answer right now"
            if isinstance(error, StorageFull):
                why = f"has no room: {error}"
            elif isinstance(error, TooManyReplicas):
                why = f"has too few servers: {error}"
            raise unavailable("pipeline-unavailable", f"NATS JetStream {why}.") from error

    async def close(self) -> None:
        """Close the connections that were made."""
        closings: list[Callable[[], Awaitable[None]]] = []
        if self._connecting is not None:
            closings.append(partial(close_opened, self._connecting))
        if "store" in self.__dict__:
            closings.append(self.store.close)
        await close_all(*closings)

    async def connected(self) -> JetStream:
        """JetStream, connected or reconnecting; the first call waits for NATS.

        Connecting goes on when the request that began it has given up.
        """
        connecting = self._connecting
        if connecting is None or (connecting.done() and connecting.exception()):
            nats, self._refusals = self._settings.nats, Refusals(self._settings.nats)
            connecting = detached(
                JetStream.connect(
                    nats,
                    "bank balances",
                    error_cb=self._refusals.on_error,
                    reconnected_cb=self._on_reconnected,
                )
            )
            self._connecting = connecting
        return await asyncio.shield(connecting)

    async def connected_by_now(self) -> JetStream:
        """The same, but raises the last error while the first connection is still tried."""
        error = self._refusals.error
        if error is not None and self._connecting is not None and not self._connecting.done():
            raise ConnectionError(error) from error
        return await self.connected()

    async def _on_reconnected(self) -> None:
        await log_reconnected()
        self.reconnected_at = time.time()


CONNECTIONS: Final = web.AppKey("connections", Connections)
