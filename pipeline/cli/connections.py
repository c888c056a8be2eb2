"""Connections for one command. A command does not wait for a server that is down."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from nats.errors import Error as NatsError

from pipeline.cli.failures import CommandFailed
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream, JetStreamError, StorageFull, TooManyReplicas
from pipeline.model.projection import Projection
from pipeline.operations.status.reader import StatusReader
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.settings import PREFIX, Settings

FAILURES: Final = (NatsError, JetStreamError, OSError)

_SECONDS: Final = 5.0


@asynccontextmanager
async def jetstream(settings: Settings) -> AsyncIterator[JetStream]:
    """JetStream, which has answered; `CommandFailed` if it does not, then or later."""
    js: JetStream | None = None
    try:
        js = await JetStream.within(_SECONDS, settings.nats, "bank")
        await js.ping()
        yield js
    except TooManyReplicas as error:
        raise CommandFailed(f"NATS at {settings.nats}: {error}") from error
    except StorageFull as error:
        raise CommandFailed(f"NATS at {settings.nats} has no room: {error}") from error
    except (NatsError, JetStreamError, TimeoutError) as error:
        raise CommandFailed(
            f"NATS at {settings.nats}: {str(error) or 'no answer in time'}\n"
            f"Start it (`bank up`), or set {PREFIX}NATS_URL to where it is."
        ) from error
    finally:
        if js is not None:
            await js.close()


@asynccontextmanager
async def status_readers(
    settings: Settings, of: Iterable[Projection]
) -> AsyncIterator[tuple[EventStore, list[StatusReader]]]:
    """The event store and a status reader for each projection, connected to the servers that
    answer."""
    # A task that the readers shield: connecting takes as long as NATS is down, but the deadline of
    # one probe must not end it for the others.
    connecting = asyncio.create_task(JetStream.connect(settings.nats, "bank"))
    store = EventStore(settings.mongodb, settings.mongodb_database)
    readers = [
        StatusReader(settings, lambda: asyncio.shield(connecting), lambda: store, each)
        for each in of
    ]
    try:
        yield store, readers
    finally:
        await cancel_and_wait(connecting)
        if not connecting.cancelled() and not connecting.exception():
            await connecting.result().close()
        for each in readers:
            await each.close()
        await store.close()
