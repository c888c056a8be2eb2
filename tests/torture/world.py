"""The bank under torture: embedded servers, every role, and a proxy on each way between them.

This is the one place that wires. Clients reach the services by proxies, too.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import nats
import nats.aio.client

from pipeline.embedded import EmbeddedServers, Server
from pipeline.settings import Settings
from pipeline.wheels import WHEELS
from tests.proxy import HttpProxy, TcpProxy
from tests.support import Role, eventually, free_port

SERVERS: Final = tuple(WHEELS)
CLIENTS: Final = "clients"
PARTITIONS: Final = 4
OPLOG_ENTRIES: Final = 5000
"""Little enough that history can be lost in the midst of a run, and enough for any pause in it."""

ROLES: Final = {
    "accounts-1": "accounts",
    "accounts-2": "accounts",
    "balances-1": "balances",
    "forwarder-1": "forwarder",
    "forwarder-2": "forwarder",
    "worker-1": "worker",
    "worker-2": "worker",
    "worker-3": "worker",
}
"""All that may run, by name. The last worker only joins for a while."""
GUEST: Final = "worker-3"


def _placed(folder: Path) -> Settings:
    urls = {f"{n}_url": f"{w.scheme}://127.0.0.1:{free_port()}" for n, w in WHEELS.items()}
    return Settings.model_validate(
        {
            "data_dir": folder / "data",
            "partitions": PARTITIONS,
            "lease_seconds": 2,
            "index_grace_seconds": 1,
            "rebuild_grace_seconds": 2,
            "token_seconds": 5,
            "accounts_port": free_port(),
            "balances_port": free_port(),
            **urls,
        }
    )


class World:
    """Everything that a fault may touch. `settings` lead straight to the servers.

    `ways` are the TCP proxies by (role, server), and (role, "clients") in front of a service;
    `elastic` is the HTTP proxy that all ways to Elasticsearch go through. `down` names the roles
    that do not run because a fault wants it so.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, _placed(folder)
        self.servers = EmbeddedServers(self.settings)
        self.elastic = HttpProxy(self.settings.elasticsearch_url)
        self.ways: dict[tuple[str, str], TcpProxy] = {}
        self.roles: dict[str, Role] = {}
        self.down: set[str] = {GUEST}
        self.blind = 0
        """How many faults have taken the projection away from readers at this moment."""
        self.blinded = 0
        """Goes up whenever that changes."""
        self.lives = 0
        """Goes up whenever Elasticsearch ends: it may have lost its last second then."""

    def of(self, kind: str) -> list[str]:
        """The names of the roles of a kind, those that come and go excepted."""
        return [name for name, each in ROLES.items() if each == kind and name != GUEST]

    @property
    def accounts(self) -> list[str]:
        return [self.ways[name, CLIENTS].url for name in self.of("accounts")]

    @property
    def balances(self) -> str:
        return self.ways["balances-1", CLIENTS].url

    # ---------------------------------------------------------------- roles

    async def start(self, name: str, **environ: str) -> None:
        """Start a role unless it runs; `environ` is for this life alone."""
        role = self.roles[name]
        if name not in self.down:
            return
        self.down.discard(name)
        usual = role.environ
        role.environ = {**usual, **environ}
        await role.start()
        role.environ = usual

    async def kill(self, name: str) -> None:
        """SIGKILL."""
        if name not in self.down:
            self.down.add(name)
            await self.roles[name].kill(signal.SIGKILL)

    async def leave(self, name: str) -> None:
        """SIGTERM, and wait until it has left in good order."""
        if name not in self.down:
            self.down.add(name)
            await self.roles[name].stop()

    def fallen(self) -> list[str]:
        """The roles that ended and nobody wanted it."""
        running = [name for name in self.roles if name not in self.down]
        return [name for name in running if self.roles[name].exit_code is not None]

    # ---------------------------------------------------------------- servers

    async def end(self, server: Server, number: int) -> None:
        """End a server by a signal."""
        forgets = server.name == "elasticsearch"
        self.lives += forgets
        await server.kill(number)
        self.lives += forgets

    def hide(self) -> None:
        """From now on readers may miss accounts, until `show` is called as often."""
        self.blind += 1
        self.blinded += 1

    def show(self) -> None:
        self.blind -= 1
        self.blinded += 1

    # ---------------------------------------------------------------- what faults speak to

    @asynccontextmanager
    async def nats(self) -> AsyncIterator[nats.aio.client.Client]:
        """A connection of its own. Raises when the server is away."""
        client = await nats.connect(
            self.settings.nats_url,
            connect_timeout=2,
            allow_reconnect=False,
            error_cb=_ignored,
        )
        try:
            yield client
        finally:
            await client.close()

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON of a request to Elasticsearch, by no proxy."""
        return await _asked(method, self.settings.elasticsearch_url + path, **options)

    async def ask_balances(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON of a request to the balance service, by no proxy."""
        return await _asked(method, self._direct("balances-1") + path, **options)

    # ---------------------------------------------------------------- from beginning to end

    async def begin(self, stack: AsyncExitStack) -> None:
        """Start all of it on the stack; each role is at work afterwards."""
        self._shorten_oplog()
        await self.servers.start()
        stack.push_async_callback(self.servers.stop)
        await stack.enter_async_context(self.elastic)
        for name, kind in ROLES.items():
            self.roles[name] = await self._wired(stack, name, kind)
        stack.push_async_callback(self._close)
        for name in ROLES:
            if name not in self.down:
                await self.roles[name].start()
        await self.at_work(90)

    async def restore(self) -> None:
        """Undo whatever faults have left: all servers and roles run, all ways are open."""
        for server in self.servers.servers.values():
            await server.kill(signal.SIGCONT)
            await server.start()
        self.elastic.faults.clear()
        for way in self.ways.values():
            await way.mend()
        for name, role in self.roles.items():
            if name == GUEST:
                await self.leave(name)
            elif name in self.down:
                await self.start(name)
            else:
                await role.kill(signal.SIGCONT)

    async def at_work(self, seconds: float) -> None:
        """Wait until both services say that they are ready."""
        for name in (*self.of("accounts"), *self.of("balances")):
            url = self._direct(name) + "/readyz"

            async def ready(url: str = url) -> bool:
                return (await _asked("GET", url))[0] == 200

            await eventually(ready, seconds=seconds, message=f"{name} is ready", every=0.2)

    async def _close(self) -> None:
        await asyncio.gather(*(role.close() for role in self.roles.values()))

    async def _wired(self, stack: AsyncExitStack, name: str, kind: str) -> Role:
        urls = {}
        for server in SERVERS:
            target = str(getattr(self.settings, f"{server}_url"))
            if server == "elasticsearch":
                target = self.elastic.url
            if server == "mongodb":
                target += "/?directConnection=true"
            way = self.ways[name, server] = await stack.enter_async_context(TcpProxy(target))
            urls[f"{server}_url"] = way.url
        told: dict[str, Any] = dict(urls)
        if kind in ("accounts", "balances"):
            told[f"{kind}_port"] = port = free_port()
            way = TcpProxy(f"http://127.0.0.1:{port}")
            self.ways[name, CLIENTS] = await stack.enter_async_context(way)
        words = ["--id", name] if kind == "worker" else []
        return Role(self.settings.model_copy(update=told), "bank", kind, *words)

    def _direct(self, name: str) -> str:
        role, kind = self.roles[name], ROLES[name]
        return f"http://127.0.0.1:{role.environ[f'BANK_{kind.upper()}_PORT']}"

    def _shorten_oplog(self) -> None:
        """An option that comes again counts in place of the first."""
        wheel = WHEELS["mongodb"]
        command = wheel.command
        WHEELS["mongodb"] = replace(
            wheel,
            command=lambda *where: [*command(*where), "--oplog-max-entries", str(OPLOG_ENTRIES)],
        )


async def _asked(method: str, url: str, **options: Any) -> tuple[int, Any]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.request(method, url, **options) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def _ignored(_: Exception) -> None:
    """Errors of a connection for one question are told by the question."""
