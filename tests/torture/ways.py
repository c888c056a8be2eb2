"""Where everything listens: servers and services on free ports, and a proxy on each way."""

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from pipeline.embedded.server_binaries import SERVER_BINARIES, ServerBinary
from pipeline.support.settings import Settings
from tests.ports import free_port
from tests.proxy import Fault, Forward, HttpProxy, Reply, Request, TcpProxy, TooLarge

SERVERS: Final = tuple(SERVER_BINARIES)
SERVICES: Final = ("accounts", "balances")
CLIENTS: Final = "clients"
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


def placed(folder: Path) -> Settings:
    """Settings that lead straight to servers of this run, with their data in the folder."""
    urls = {f"{n}_url": f"{w.scheme}://127.0.0.1:{free_port()}" for n, w in SERVER_BINARIES.items()}
    data = {"data_dir": folder / "data", "partitions": PARTITIONS}
    return Settings.model_validate({**data, **_QUICK, **urls})


def spare(settings: Settings) -> Settings:
    """Settings for a second Redis, with data of its own."""
    where = {
        "data_dir": settings.data_dir / "spare",
        "redis_url": f"redis://127.0.0.1:{free_port()}",
    }
    return settings.model_copy(update=where)


def short_of_history(wheel: ServerBinary) -> ServerBinary:
    """MongoDB with a short oplog: an option that comes again counts in place of the first."""
    command = wheel.command
    return replace(
        wheel,
        command=lambda *where: [*command(*where), "--oplog-max-entries", str(OPLOG_ENTRIES)],
    )


class Ways:
    """The TCP proxies by (role, server), and by (role, "clients") in front of a service.

    All ways to Elasticsearch lead on through one HTTP proxy, `elastic`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.elastic = HttpProxy(settings.elasticsearch_url)
        self.observers: list[Fault] = []
        """See every request to Elasticsearch and its answer, and change nothing."""
        self.elastic.faults.append(self._observed)
        self.all: dict[tuple[str, str], TcpProxy] = {}

    async def told(self, stack: AsyncExitStack, name: str, kind: str) -> Settings:
        """Open a role's ways on the stack; returns the settings that lead through them."""
        told: dict[str, Any] = {}
        for server in SERVERS:
            way = self.all[name, server] = TcpProxy(self._target(server))
            await stack.enter_async_context(way)
            told[f"{server}_url"] = way.url
        if kind in SERVICES:
            told[f"{kind}_port"] = port = free_port()
            way = self.all[name, CLIENTS] = TcpProxy(f"http://127.0.0.1:{port}")
            await stack.enter_async_context(way)
        return self._settings.model_copy(update=told)

    def to_target(self, target: str) -> list[TcpProxy]:
        """All ways to a server, or those of the clients."""
        return [way for (_, to), way in self.all.items() if to == target]

    async def _observed(self, request: Request, forward: Forward) -> Reply:
        for observer in self.observers:
            forward = partial(observer, forward=forward)
        return await forward(request)

    def mend_elastic(self) -> None:
        """Take the faults that heal out of the HTTP proxy."""
        stay = [fault for fault in self.elastic.faults if isinstance(fault, TooLarge)]
        self.elastic.faults[:] = [self._observed, *stay]

    def _target(self, server: str) -> str:
        if server == "elasticsearch":
            return self.elastic.url
        url = str(getattr(self._settings, f"{server}_url"))
        return f"{url}/?directConnection=true" if server == "mongodb" else url
