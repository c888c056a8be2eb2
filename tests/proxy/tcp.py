"""A TCP proxy in front of one server: the way can be cut, hang, be slow, or die on one side."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self
from urllib.parse import urlsplit

from tests.ports import free_port
from tests.proxy.link import Link, Way


class TcpProxy:
    """Passes everything to `target`, a URL of any scheme; `url` is the same one by the proxy.

    An async context manager. Each change holds until the next one, `mend` included. A client of
    MongoDB has to be told `directConnection=true`, or it goes on to where the server says it is.
    With a `context`, clients have to speak TLS to it, which the server behind need not know.
    """

    def __init__(self, target: str, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        parts = urlsplit(target)
        self.lead_to(target)
        self.port = free_port()
        user, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()
        self._way = Way()
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._halves: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        """Pass all again, what a hang has kept too. A half-open connection stays as it is."""
        self._way.delay = 0.0
        self._way.open.set()
        if self._server is None:
            self._server = await asyncio.start_server(
                self._accept, "127.0.0.1", self.port, ssl=self._context
            )

    def lead_to(self, target: str) -> None:
        """Pass new connections to another server, as a name does that was moved; old ones stay."""
        parts = urlsplit(target)
        assert parts.port is not None, "the target needs a port"
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port

    async def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            await self._drop()
            await server.wait_closed()

    async def hang(self) -> None:
        """Accept connections, keep them and what they are given, and pass nothing."""
        await self.mend()
        self._way.open.clear()

    async def slow(self, seconds: float) -> None:
        """Let every read of either side wait that long before it is passed on."""
        await self.mend()
        self._way.delay = seconds

    def half_open(self) -> None:
        """The server loses all present connections and nobody tells the clients; new ones pass."""
        for link in list(self._links):
            self._halves.add(link.client)
            link.lose_server()

    def kept(self) -> bytes:
        """What clients have sent and was not passed on yet."""
        return b"".join(link.request.kept() for link in self._links)

    @contextmanager
    def recording(self) -> Iterator[bytearray]:
        """All that the server says to clients while the block runs."""
        record = bytearray()
        self._way.records.append(record)
        try:
            yield record
        finally:
            self._way.records = [each for each in self._way.records if each is not record]

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def _drop(self) -> None:
        for client in self._halves:
            client.transport.abort()
        self._halves.clear()
        links = list(self._links)
        for link in links:
            link.abort()
        await asyncio.gather(*(link.gone.wait() for link in links))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its beginning to its end."""
        try:
            server = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        link = Link((reader, writer), server, self._way)
        self._links.add(link)
        if self._server is None:  # cut meanwhile
            link.abort()
        await link.run()
        self._links.discard(link)
        link.gone.set()
