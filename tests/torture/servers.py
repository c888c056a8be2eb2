"""The servers of a run, as faults and judges see them, and the embedded ones: one of each kind."""

import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from pipeline.embedded.server_binaries import SERVER_BINARIES, ServerBinary
from pipeline.embedded.servers import EmbeddedServers, Server
from pipeline.support.settings import Settings
from tests.ports import free_port

SERVERS: Final = tuple(SERVER_BINARIES)
PARTITIONS: Final = 4
OPLOG_ENTRIES: Final = 5000
"""Little enough that history can be lost in the midst of a run, and enough for any pause in it."""

_QUICK: Final = {
    "lease_seconds": 2,
    "index_grace_seconds": 1,
    "rebuild_grace_seconds": 2,
    "token_seconds": 5,
}
"""What takes minutes in a bank would not come up in a run."""

Copies = Mapping[str, frozenset[str]]
"""By shard of Elasticsearch the copies that it has."""


class Servers(Protocol):
    """Servers that run.

    `settings` lead straight to them, wherever they are now; `single` are those that are one process
    each, by their names.
    """

    @property
    def settings(self) -> Settings: ...

    @property
    def single(self) -> Mapping[str, Server]: ...

    async def restore(self) -> None:
        """All of them run again, whatever faults have left."""

    async def copies(self) -> Copies:
        """The copies of Elasticsearch's shards; empty if none can come or go."""

    async def keep_logs(self, folder: Path) -> None:
        """Copy there what would be lost with the servers."""


class Embedded:
    """One server of each kind, and a second Redis that may take the place of the first."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.settings = placed(folder, **changes)
        self._servers = EmbeddedServers(self.settings)
        self._spares = EmbeddedServers(_spare(self.settings), ["redis"])

    async def begin(self, stack: AsyncExitStack) -> None:
        """Start all on the stack."""
        shorten_history()
        for servers in (self._servers, self._spares):
            stack.push_async_callback(servers.stop)
            await servers.start()

    @property
    def single(self) -> dict[str, Server]:
        return self._servers.servers

    @property
    def spare(self) -> Server:
        """The Redis that is not in use."""
        return self._spares.servers["redis"]

    def exchange_redis(self) -> str:
        """The spare one is Redis from now on, and what was Redis is the spare one; the new URL."""
        now, then = self._spares.servers, self.single
        then["redis"], now["redis"] = now["redis"], then["redis"]
        url = then["redis"].url
        self.settings = self.settings.model_copy(update={"redis_url": url})
        return url

    async def restore(self) -> None:
        for server in (*self.single.values(), self.spare):
            await server.kill(signal.SIGCONT)
            await server.start()

    async def copies(self) -> Copies:
        return {}

    async def keep_logs(self, folder: Path) -> None:
        """They are in the folder of their data, which stays."""


async def embedded(folder: Path, stack: AsyncExitStack, **changes: Any) -> Embedded:
    """Started on the stack; `changes` are settings."""
    servers = Embedded(folder, **changes)
    await servers.begin(stack)
    return servers


def placed(folder: Path, **changes: Any) -> Settings:
    """Settings for servers of this run, each on a free port, with their data in the folder."""
    urls = {f"{n}_url": f"{w.scheme}://127.0.0.1:{free_port()}" for n, w in SERVER_BINARIES.items()}
    data = {"data_dir": folder / "data", "partitions": PARTITIONS}
    return Settings.model_validate({**data, **_QUICK, **urls, **changes})


def _spare(settings: Settings) -> Settings:
    """Settings for a second Redis, with data of its own."""
    where = {
        "data_dir": settings.data_dir / "spare",
        "redis_url": f"redis://127.0.0.1:{free_port()}",
    }
    return settings.model_copy(update=where)


def shorten_history() -> None:
    """Have MongoDB keep a short oplog in this process."""
    SERVER_BINARIES["mongodb"] = _short_of_history(SERVER_BINARIES["mongodb"])


def _short_of_history(binary: ServerBinary) -> ServerBinary:
    """An option that comes again counts in place of the first."""
    command = binary.command
    return replace(
        binary,
        command=lambda *where: [*command(*where), "--oplog-max-entries", str(OPLOG_ENTRIES)],
    )
