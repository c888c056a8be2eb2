"""Server-sent events: a stream lasts until its events end, or client or service stops it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from aiohttp import web

from api.http import correlation
from api.http.problems import unavailable
from pipeline.support.cancellation import raise_if_cancelled

log = logging.getLogger(__name__)

EVENTS: Final = "text/event-stream"
"""The media type of such an answer."""

EVERY: Final = 0.5
"""Seconds between two readings."""
HEARTBEAT: Final = 10.0
"""Seconds of silence after which a comment is sent, so that no proxy closes the connection."""
_PATIENCE: Final = 5.0
"""Seconds in which a client must read what it is sent."""
_FAREWELL: Final = 1.0
"""Seconds in which it must read the end of the stream."""

_HEADERS: Final = {
    "Content-Type": EVENTS,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


class Streams:
    """The open streams of a service, `most` at a time; they end when the service stops."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: set[asyncio.Timeout] = set()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._open)

    def stop(self) -> None:
        """End all open streams at once, and every later one."""
        if self._stopped:
            return
        self._stopped = True
        for scope in self._open:
            scope.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def until_stopped(self) -> AsyncIterator[None]:
        """End the block when the service stops."""
        try:
            async with asyncio.timeout(0 if self._stopped else None) as scope:
                self._open.add(scope)
                try:
                    yield
                finally:
                    self._open.discard(scope)
        except TimeoutError:
            if not scope.expired():
                raise


STREAMS: Final = web.AppKey("streams", Streams)
_BEGUN: Final = web.RequestKey("begun", web.StreamResponse)


def event(name: str, data: bytes) -> bytes:
    """An event as it goes over the wire; `data` has no line ends."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


async def stream(
    request: web.Request, news: AsyncGenerator[bytes | None, None]
) -> web.StreamResponse:
    """Send each event as it comes; None means no event yet. Problem 503 `too-many-streams`."""
    streams = request.app[STREAMS]
    if len(streams) >= streams.most:
        raise unavailable("too-many-streams", f"{streams.most} event streams are open.")
    headers = {**_HEADERS, correlation.HEADER: correlation.current()}
    response = request[_BEGUN] = web.StreamResponse(headers=headers)
    try:
        async with streams.until_stopped(), aclosing(news):
            await response.prepare(request)
            await _send(request, response, news)
    except (ConnectionError, TimeoutError):
        _abort(request)
    else:
        await end_stream(request)
    return response


async def end_stream(request: web.Request) -> web.StreamResponse | None:
    """End the stream that the request has begun; None if it has begun none."""
    response: web.StreamResponse | None = request.get(_BEGUN)
    if response is None or not response.prepared:
        return None
    try:
        async with asyncio.timeout(_FAREWELL):
            await response.write_eof()
    except (ConnectionError, TimeoutError):
        _abort(request)
    return response


def _abort(request: web.Request) -> None:
    log.debug("a client of %s has disconnected, or reads nothing", request.path)
    if request.transport is not None:
        request.transport.abort()


async def _send(
    request: web.Request, response: web.StreamResponse, news: AsyncIterator[bytes | None]
) -> None:
    clock = asyncio.get_running_loop().time
    quiet_since = clock()
    async for item in news:
        raise_if_cancelled()
        if request.transport is None or request.transport.is_closing():
            return
        if item is None and clock() - quiet_since < HEARTBEAT:
            continue
        async with asyncio.timeout(_PATIENCE):
            await response.write(item or b": still here\n\n")
        quiet_since = clock()
