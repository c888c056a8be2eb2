"""One connection through a TCP proxy: two flows of bytes, read ahead and passed when they may."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

_CHUNK = 65536

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Way:
    """What holds for all connections of a proxy."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    delay: float = 0.0
    records: list[bytearray] = field(default_factory=list)
    """Get all that is passed from the server to clients."""


class Flow:
    """One direction. What was read and not passed is kept, however much it is."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way, recorded: bool
    ) -> None:
        self._reader, self._writer = reader, writer
        self._way, self._recorded = way, recorded
        self._chunks: deque[bytes] = deque()
        self._more = asyncio.Event()

    def kept(self) -> bytes:
        return b"".join(self._chunks)

    async def read(self) -> None:
        """Read to the end, which is kept as an empty chunk."""
        data = b" "
        while data:
            try:
                data = await self._reader.read(_CHUNK)
            except OSError:
                data = b""
            self._chunks.append(data)
            self._more.set()

    async def write(self) -> None:
        """Pass what was read, to the end."""
        while True:
            await self._more.wait()
            await self._way.open.wait()
            await asyncio.sleep(self._way.delay)
            data = self._chunks.popleft()
            if not self._chunks:
                self._more.clear()
            if not data:
                return
            for record in self._way.records if self._recorded else ():
                record += data
            self._writer.write(data)
            await self._writer.drain()


class Link:
    """A client's connection, ours to the server for it, and what carries bytes between them."""

    def __init__(self, client: Streams, server: Streams, way: Way) -> None:
        self.client, self.server = client[1], server[1]
        self.request = Flow(client[0], self.server, way, recorded=False)
        self.reply = Flow(server[0], self.client, way, recorded=True)
        self.gone = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = self._abandoned = False

    async def run(self) -> None:
        """Carry bytes until either side has ended, then end the other."""
        flows = (self.request, self.reply)
        writes = [asyncio.create_task(flow.write()) for flow in flows]
        self._tasks = [*writes, *(asyncio.create_task(flow.read()) for flow in flows)]
        if not self._ending:
            await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.server.close()
        if not self._abandoned:
            self.client.close()

    def abort(self) -> None:
        """End both sides at once."""
        self.client.transport.abort()
        self._end()

    def lose_server(self) -> None:
        """End the server's side and say nothing to the client."""
        self._abandoned = True
        self._end()

    def _end(self) -> None:
        self._ending = True
        self.server.transport.abort()
        for task in self._tasks:
            task.cancel()
