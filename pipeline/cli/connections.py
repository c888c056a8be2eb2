"""Connections for one command. A command does not wait for a server that is down."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from nats.errors import Error as NatsError

from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import echo
from pipeline.eventstore import EventStore
from pipeline.messaging import (
    JetStream,
    JetStreamError,
    Refused,
    StorageFull,
    TooManyReplicas,
)
from pipeline.model.projection import Projection
from pipeline.operations.status.reader import StatusReader
from pipeline.support.cancellation import cancel_and_wait, raise_if_cancelled
from pipeline.support.settings import Settings

T = TypeVar("T")

NATS_DOWN: Final = "NATS does not answer; asking again until it does"
FAILURES: Final = (NatsError, JetStreamError, OSError)
ANSWERS: Final = (Refused, StorageFull, TooManyReplicas)
"""Failures that asking again does not end."""

_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 0.25


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
        why = str(error) or "no answer in time"
        raise CommandFailed(f"NATS at {settings.nats}: {why}\n{settings.advice('nats')}") from error
    finally:
        if js is not None:
            await js.close()


async def until_answered(call: Callable[[], Awaitable[T]], known: str = "") -> T:
    """Repeat the call until NATS answers it; says once that it does not, and what is `known`.

    For what is under way: whether a call was carried out is not known when its answer is lost, so
    the call must be one that may be repeated.
    """
    told = False
    while True:
        try:
            return await call()
        except ANSWERS:
            raise
        except FAILURES:
            if not told:
                echo(f"{NATS_DOWN}. {known}".rstrip(". "), err=True)
            told = True
        raise_if_cancelled()
        await asyncio.sleep(_AGAIN_SECONDS)


def no_answer(settings: Settings, servers: Iterable[str]) -> CommandFailed:
    """The failure of a command that these servers, by the names of people, did not answer."""
    names = list(servers)
    advice = settings.advice(*map(str.lower, names))
    return CommandFailed(f"no answer from {', '.join(names)}\n{advice}")


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
