"""Connections for one command. A command does not wait for a server that is down."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

from nats.errors import Error as NatsError

from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import echo
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream, JetStreamError, StorageFull, TooManyReplicas, answers
from pipeline.messaging.answers import ELECTION
from pipeline.model.projection import Projection
from pipeline.operations.status.reader import StatusReader
from pipeline.support.cancellation import close_all, close_opened
from pipeline.support.server_answers import answered, silence, worded
from pipeline.support.settings import Settings

T = TypeVar("T")

NATS_DOWN: Final = "NATS does not answer; asking again until it does"

_SECONDS: Final = 5.0


@asynccontextmanager
async def jetstream(settings: Settings) -> AsyncIterator[JetStream]:
    """JetStream, which has answered; `CommandFailed` if it does not, then or later."""
    js: JetStream | None = None
    try:
        js = await JetStream.within(_SECONDS, settings.nats, "bank")
        await until_answered(js.ping, seconds=ELECTION)
        yield js
    except TooManyReplicas as error:
        raise CommandFailed(f"NATS at {settings.nats}: {error}") from error
    except StorageFull as error:
        raise CommandFailed(f"NATS at {settings.nats} has no room: {error}") from error
    except (NatsError, JetStreamError, TimeoutError) as error:
        if answered(error):
            raise CommandFailed(worded(f"NATS at {settings.nats}", error)) from error
        why = str(error) or "no answer in time"
        raise CommandFailed(f"NATS at {settings.nats}: {why}\n{settings.advice('nats')}") from error
    finally:
        if js is not None:
            await js.close()


async def until_answered(
    call: Callable[[], Awaitable[T]], known: str = "", *, seconds: float = math.inf
) -> T:
    """See `answers.until_answered`; says once what NATS does instead, and what is `known`."""
    reported = False

    def report(error: Exception) -> None:
        nonlocal reported
        if not reported:
            down = f"{worded('NATS', error)}; asking again" if answered(error) else NATS_DOWN
            echo(f"{down}. {known}".rstrip(". "), err=True)
        reported = True

    return await answers.until_answered(call, seconds, report)


def no_answer(settings: Settings, failed: Mapping[str, str]) -> CommandFailed:
    """The failure of a command by servers, by the names of people, each with what it did."""
    names = sorted(name for name, why in failed.items() if why == silence(name))
    lines = [failed[name] for name in sorted(failed) if name not in names]
    if names:
        lines += [f"no answer from {', '.join(names)}", settings.advice(*map(str.lower, names))]
    return CommandFailed("\n".join(lines))


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
        await close_all(
            partial(close_opened, connecting), *(each.close for each in readers), store.close
        )
