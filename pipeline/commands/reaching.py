"""A connection to JetStream for one command, which does not wait for a server that is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nats.errors import Error as NatsError

from pipeline.commands.failures import Told
from pipeline.jetstream import JetStream, JetStreamError
from pipeline.settings import PREFIX, Settings, masked

_SECONDS: Final = 5.0


@asynccontextmanager
async def jetstream(settings: Settings) -> AsyncIterator[JetStream]:
    """JetStream, which has answered; `Told` when it does not, or no longer."""
    js: JetStream | None = None
    try:
        async with asyncio.timeout(_SECONDS):
            js = await JetStream.connect(settings.nats_url, "bank")
            await js.ping()
        yield js
    except (NatsError, JetStreamError, TimeoutError) as error:
        raise Told(
            f"NATS at {masked(settings.nats_url)}: {str(error) or 'no answer in time'}\n"
            f"Start it (`bank up`), or set {PREFIX}NATS_URL to where it is."
        ) from error
    finally:
        if js is not None:
            await js.close()
