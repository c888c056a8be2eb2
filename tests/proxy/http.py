"""An HTTP proxy in front of one server: every request goes through a chain of faults."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.ports import free_port

# What speaks of a connection, not of the message; bodies are whole here, and not compressed.
_OURS = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "expect"} | {
    "accept-encoding",
    "content-encoding",
}
_MOST_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent; `target` is path and query as they came."""

    method: str
    target: str
    headers: CIMultiDict[str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered, or a fault in its place."""

    status: int
    headers: CIMultiDict[str]
    body: bytes


Forward = Callable[[Request], Awaitable[Reply]]


class Fault(Protocol):
    """Answers a request itself, or hands it on with `forward`, changed or late or as it is."""

    async def __call__(self, request: Request, forward: Forward) -> Reply: ...


class HttpProxy:
    """Passes everything to `target` by way of `faults`, the first one outermost.

    An async context manager; clients use `url`. A server that can't be reached, or that breaks
    off, looks to the client as it does without the proxy.
    """

    def __init__(self, target: str) -> None:
        self.target, self.port = target.rstrip("/"), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.faults: list[Fault] = []
        self._http: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    @contextmanager
    def faulty(self, *faults: Fault) -> Iterator[None]:
        """Have these faults, too, while the block runs."""
        self.faults += faults
        try:
            yield
        finally:
            self.faults = [fault for fault in self.faults if fault not in faults]

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop every connection and refuse new ones, from now on."""
        assert self._runner is not None
        assert self._http is not None
        await self._runner.cleanup()
        await self._http.close()

    async def _serve(self, incoming: web.Request) -> web.Response:
        body = await incoming.read()
        request = Request(incoming.method, incoming.raw_path, _passed(incoming.headers), body)
        forward: Forward = self._forward
        for fault in reversed(self.faults):
            forward = partial(fault, forward=forward)
        try:
            reply = await forward(request)
        except (aiohttp.ClientError, OSError):
            if incoming.transport is not None:
                incoming.transport.abort()
            return web.Response()
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    async def _forward(self, request: Request) -> Reply:
        assert self._http is not None
        url = URL(self.target + request.target, encoded=True)
        async with self._http.request(
            request.method, url, headers=request.headers, data=request.body or None
        ) as answer:
            return Reply(answer.status, _passed(answer.headers), await answer.read())


def _passed(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in _OURS
    )
