"""News: "this was just written", so that who follows it needn't read it several times a second.

Plain NATS messages without content, published after the write. One may be lost, and who writes or
purges by other means sends none, so one reads without news, too, but seldom. They have a subject of
their own: a subscription to a stream's subject would answer for it when the stream is gone.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from nats.aio.msg import Msg

from pipeline.messaging.client import JetStream
from pipeline.support.ticks import to_tick

SELDOM: Final = 2.0
"""Seconds between two reads without news."""


class News:
    """Says when to read again."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        self._last = -math.inf

    async def note(self, _: Msg) -> None:
        self._came.set()

    @property
    def came(self) -> bool:
        """Whether some came since the last read was begun."""
        return self._came.is_set()

    def reading(self) -> None:
        """A read begins: what comes during it may be news to it."""
        self._came.clear()

    async def wait(self, pause: float, most: float | None = None) -> None:
        """Wait for news, until a tick of `most` or `SELDOM` seconds, and at least `pause` since the
        last time."""
        clock = asyncio.get_running_loop().time
        with suppress(TimeoutError):
            async with asyncio.timeout(to_tick(most or SELDOM)):
                await self._came.wait()
        await asyncio.sleep(max(0.0, self._last + pause - clock()))
        self._last = clock()
        self.reading()


async def announce(js: JetStream, what: str) -> None:
    """Publish that it has been written. Never fails."""
    if js.nc.is_connected:
        with suppress(Exception):
            await js.nc.publish(js.names.news(what))


@asynccontextmanager
async def news_of(js: JetStream, what: str) -> AsyncIterator[News]:
    """The news of it while the block runs."""
    news = News()
    subscription = await js.nc.subscribe(js.names.news(what), cb=news.note)
    try:
        yield news
    finally:
        with suppress(Exception):  # the connection is closed
            await subscription.unsubscribe()
