"""Accepts connections from sockets on which other processes accept, too, and shares them evenly."""

import asyncio
import mmap
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from aiohttp import web

from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.process_group import Member

_HELD_BACK: Final = 0.002
"""Seconds that a process leaves a connection to those that have fewer. Those may hang, so it is
not left to them for ever."""
_OUT_OF_FILES_PAUSE: Final = 1.0
"""Seconds, as long as asyncio's own servers wait."""


class SharedSite(web.BaseSite):
    """Accepts from one socket, one connection at a time.

    asyncio's server takes all that wait, up to 128, so that a client's connections, which stay for
    long, would all be with the process that wakes up first. Every process wakes up for each
    connection, and notes how many it has in a file that all of them map.
    """

    def __init__(self, runner: web.AppRunner, listener: socket.socket, member: Member) -> None:
        super().__init__(runner)
        self._listener, self._number = listener, member.number
        listener.setblocking(False)
        self._counts = _mapped(member.counts)
        self._accepting: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return str(self._listener.getsockname())

    async def start(self) -> None:
        await super().start()
        self._counts[self._number] = 0
        self._accepting = asyncio.create_task(self._accept())

    async def stop(self) -> None:
        if self._accepting is not None:
            await cancel_and_wait(self._accepting)
        self._listener.close()
        await super().stop()

    async def _accept(self) -> None:
        loop, server = asyncio.get_running_loop(), self._runner.server
        assert isinstance(server, web.Server)
        while True:
            await _readable(self._listener)
            if self._ahead(server):
                await asyncio.sleep(_HELD_BACK)
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                continue  # another process has it, or the client has gone
            except OSError as error:
                loop.call_exception_handler({"message": "accept failed", "exception": error})
                await asyncio.sleep(_OUT_OF_FILES_PAUSE)
                continue
            connection.setblocking(False)
            with suppress(OSError):
                await loop.connect_accepted_socket(server, connection)

    def _ahead(self, server: web.Server) -> bool:
        """Whether another process has fewer connections; notes how many this one has."""
        mine = self._counts[self._number] = len(server.connections)
        return mine > min(self._counts)


def _mapped(counts: Path) -> memoryview:
    with counts.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("I")


async def _readable(listener: socket.socket) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listener.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(listener.fileno())
