"""Runs the four servers as child processes on one machine: starts, watches and stops them together.

They listen at the settings' URLs and write data and logs into the data folder. A lock gives the
folder one owner at a time.
"""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterable
from typing import IO, Any, NoReturn

from pipeline.embedded.processes import Children
from pipeline.embedded.server import Server
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.startup_checks import (
    EmbeddedError,
    check_disk,
    own_folder,
    placed_here,
    variable,
)
from pipeline.support.settings import Settings

__all__ = ["EmbeddedError", "EmbeddedServers", "Server"]

log = logging.getLogger(__name__)


class EmbeddedServers:
    """Those of the servers `names` whose URL in the settings is on this machine.

    After the start, `foreign` has the others (name -> URL), which are not started.
    """

    def __init__(self, settings: Settings, names: Collection[str] = tuple(SERVER_BINARIES)) -> None:
        self.settings = settings
        self.servers: dict[str, Server] = {}
        self.foreign: dict[str, str] = {}
        self._names = names
        self._lock: IO[str] | None = None
        self._children: Children | None = None

    async def start(self) -> None:
        """Start all and wait until all are healthy; otherwise stop all and raise EmbeddedError."""
        data_dir = self.settings.data_dir.absolute()
        here = self._placed_here()
        check_disk(data_dir)
        self._lock = await own_folder(data_dir)
        try:
            children = self._children = Children(data_dir, keep=[self._lock.fileno()])
            self.servers = {
                name: Server(SERVER_BINARIES[name], url, data_dir, children)
                for name, url in here.items()
            }
            # Check all before any is started: a taken port is an error that starts nothing.
            for server in self.servers.values():
                server.check()
            await _all(server.start() for server in self.servers.values())
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all, then release the data folder. May be called again.

        The lock last: a new owner must not open the data while a server still writes it.
        """
        try:
            await _all(server.stop() for server in self.servers.values())
        finally:
            if self._children is not None:
                await self._children.close()
            if self._lock is not None:
                self._lock.close()

    async def wait_dead(self) -> NoReturn:
        """Wait until a server dies by itself; raise the EmbeddedError about it."""
        while True:
            for server in self.servers.values():
                if death := server.death():
                    raise death
            await asyncio.sleep(0.1)

    def _placed_here(self) -> dict[str, str]:
        found = {name: self.settings.access(name) for name in self._names}
        here = {
            n: at.url for n, at in found.items() if placed_here(n, at, SERVER_BINARIES[n].scheme)
        }
        self.foreign = {name: str(at) for name, at in found.items() if name not in here}
        for name, url in self.foreign.items():
            log.warning("%s is not ours to start, it is elsewhere: %s", variable(name), url)
        return here


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all of them to their end, then raise the first error."""
    tasks = [asyncio.create_task(each) for each in work]
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
