"""The HTTP server of every role: aiohttp's, with limits on what a peer may cost.

- A refused request's body is neither decompressed nor read: its connection is closed.
- What is not HTTP, and an expectation that nobody meets, is a problem document (RFC 9457) like any
  other, and not logged as it came: it may have a key.
- HttpConnections have the limits of `HttpConnections`.
"""

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from pipeline.model.ulids import new_ulid
from pipeline.support.cancellation import running
from pipeline.support.http_connections import HttpConnections

MEDIA_TYPE: Final = "application/problem+json"
CORRELATION: Final = "X-Correlation-ID"

LINGER: Final = 2.0
"""Seconds that the client of a refused request has to read the answer: a socket that is closed with
bytes unread is reset, and the client may lose what it was sent."""
_MOST_DROPPED: Final = 4 * 1024 * 1024
"""Bytes that it may go on sending meanwhile."""

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_HEADERS: Final = {
    hdrs.SERVER: "bank",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer that has none of its own: most are about accounts."""


class Connection(web.RequestHandler):
    """One connection, which keeps to the limits of `HttpConnections`."""

    __slots__ = (
        "_all",
        "_body",
        "_dropped",
        "_ended",
        "_idle",
        "_link",
        "_part_of_head",
        "head_by",
        "unread_since",
    )

    def __init__(self, server: "_Server", connections: HttpConnections, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._all = connections
        self._link: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] | None = None
        self._dropped, self._idle = 0, True
        self._body: StreamReader = EMPTY_PAYLOAD
        self._part_of_head = False
        self.head_by = math.inf
        self.unread_since: float | None = None

    @property
    def unread(self) -> int:
        return self._link.get_write_buffer_size() if self._link else 0

    def abort(self) -> None:
        if self._link is not None:
            self._link.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by its class, but has the methods.
        self._link = link = cast(asyncio.Transport, transport)
        if not self._all.admit(self):
            link.abort()
            return
        _forget_dead_peers(link, self._all.write_seconds)
        self.head_by = self._loop.time() + self._all.head_seconds
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if isinstance(exc, TimeoutError):
            self._all.refusals.note("unread")
        self._all.forget(self)
        self._link = None
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ended is not None:
            self._dropped += len(data)
            if self._dropped > _MOST_DROPPED:
                self._end()
            return
        if self._idle and self.head_by == math.inf:
            self.head_by = self._loop.time() + self._all.head_seconds
        if not data:  # aiohttp has the parser go on with what it keeps
            self._parse(data)
        elif self._part_of_head or not self._body.is_eof():
            # The parser does not tell what it keeps: a last byte that ends no request, and is of no
            # body, is of a head that is not whole yet.
            self._parse(data[:-1])
            awaited = not self._body.is_eof()
            self._part_of_head = not self._parse(data[-1:]) and not awaited
        else:  # from the beginning of a request, and mostly a whole one
            whole = self._parse(data)
            self._part_of_head = not whole or (self._body.is_eof() and not _ends(data, self._body))

    def _parse(self, data: bytes) -> bool:
        """Whether a head ends in these bytes."""
        before = self._request_count
        super().data_received(data)
        if whole := self._request_count > before:
            self._body = self._messages[-1][1]
        return whole

    def answers(self) -> None:
        """A whole head has come."""
        self.head_by, self._idle = math.inf, False
        self._all.busy(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        unread = not request.content.is_eof()
        if unread and not resp.prepared:
            resp.force_close()
        answered = await super().finish_response(request, resp, start_time)
        if unread:
            await self._drop_the_rest()
        self._idle = True
        if self._part_of_head and not self._messages:
            self.head_by = self._loop.time() + self._all.head_seconds
        self._all.idle(self)
        return answered

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP. aiohttp's own would log it as it came, with any key."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of another answer was sent")
        if status >= 500:
            self.logger.error("a request failed outside of its handler", exc_info=exc)
            return _closing(
                _problem(500, "internal-error", "Internal error", "The fault is ours.", "/")
            )
        self._all.refusals.note("malformed")
        detail = "This is not an HTTP request, or a line of its head is too long."
        return _closing(_problem(400, "malformed-request", "Malformed request", detail, "/"))

    async def _drop_the_rest(self) -> None:
        """End our side, and drop what the client still sends, as it is, until it ends its own."""
        self.close()
        if self._link is None or self._link.is_closing():
            return
        self._ended = self._loop.create_future()
        with suppress(TimeoutError, OSError, RuntimeError):
            self._link.write_eof()
            self._link.resume_reading()
            async with asyncio.timeout(LINGER):
                await self._ended

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


class _Server(web.Server):
    """Makes a `Connection` of each socket."""

    def __init__(self, made: web.Server, connections: HttpConnections, **options: Any) -> None:
        super().__init__(_expecting(made.request_handler), request_factory=self._request)
        self._made, self._connections_of_ours, self._options = made, connections, options

    def __call__(self) -> Connection:
        return Connection(self, self._connections_of_ours, **self._options)

    def _request(
        self,
        message: Any,
        payload: Any,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        assert isinstance(protocol, Connection)
        protocol.answers()
        return self._made.request_factory(message, payload, protocol, writer, task)


class Runner(web.AppRunner):
    """Runs an application on such a server."""

    def __init__(
        self, app: web.Application, connections: HttpConnections, *, grace: float, **options: Any
    ) -> None:
        """`grace`: seconds that a started answer gets at the end; `options` of aiohttp's."""
        app.on_response_prepare.append(_add_headers)
        app.cleanup_ctx.append(_watched(connections))
        super().__init__(app, shutdown_timeout=grace)
        self._of_connections, self._options = connections, options

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made,
            self._of_connections,
            keepalive_timeout=self._of_connections.idle_seconds,
            lingering_time=0,  # it would parse the rest of a refused body, to drop it
            auto_decompress=False,
            **self._options,
        )


def _ends(data: bytes, body: StreamReader) -> bool:
    """Whether what came ends with a request, of which this is the body: with its head, or with as
    many bytes after its head as the body has. A body in chunks ends as a head does."""
    end = len(data) - body.total_bytes
    return data.endswith(b"\r\n\r\n") or data.endswith(b"\r\n\r\n", 0, end)


def _forget_dead_peers(transport: asyncio.Transport, seconds: float) -> None:
    """Of what the system has taken to send we see nothing: it ends a connection by itself whose
    peer does not acknowledge that. Later than we do, who also know why."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock = transport.get_extra_info("socket")
        with suppress(OSError):  # it is closed already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 2000))


def _watched(connections: HttpConnections) -> Callable[[web.Application], AsyncIterator[None]]:
    async def watched(_: web.Application) -> AsyncIterator[None]:
        async with running(connections.watch()):
            yield

    return watched


async def _add_headers(_: web.BaseRequest, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = _HEADERS[hdrs.SERVER]  # aiohttp has set it: with its version


def _expecting(handler: _Handler) -> _Handler:
    """aiohttp answers an `Expect` before any middleware, and fails over what is not ASCII."""

    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        detail = "The only expectation that is met is 100-continue."
        instance = request.rel_url.raw_path.encode("ascii", "replace").decode("ascii")
        return _problem(417, "expectation-failed", "Expectation failed", detail, instance)

    def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        expected = request.headers.get(hdrs.EXPECT)
        met = not expected or expected.lower() == "100-continue"
        return (handler if met else refuse)(request)

    return handle


def _problem(status: int, name: str, title: str, detail: str, instance: str) -> web.Response:
    document = {
        "type": f"/problems/{name}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
    }
    return web.Response(
        status=status,
        text=json.dumps(document),
        content_type=MEDIA_TYPE,
        headers={**_HEADERS, CORRELATION: new_ulid()},
    )


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response
