"""The proxies on each way between roles, servers and clients."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from pipeline.support.settings import Settings
from tests.ports import free_port
from tests.proxy import Fault, Forward, HttpProxy, Reply, Request, TcpProxy, TooLarge
from tests.torture.servers import SERVERS

SERVICES: Final = ("accounts", "balances")
CLIENTS: Final = "clients"


class Ways:
    """The TCP proxies by (role, server), one for each of its hosts, and by (role, "clients") in
    front of a service.

    All ways to a node of Elasticsearch lead on through one HTTP proxy; `faults` are in all of
    these. Nothing leads to a Redis behind sentinels: they tell the roles where it is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nodes = [HttpProxy(url) for url in settings.elasticsearch.urls]
        self.observers: list[Fault] = []
        """See every request to Elasticsearch and its answer, and change nothing."""
        self.faults: list[Fault] = [self._observed]
        for node in self._nodes:
            node.faults = self.faults
        self.all: dict[tuple[str, str], list[TcpProxy]] = {}

    async def begin(self, stack: AsyncExitStack) -> None:
        """Open the HTTP proxies on the stack."""
        for node in self._nodes:
            await stack.enter_async_context(node)

    async def told(self, stack: AsyncExitStack, name: str, kind: str) -> Settings:
        """Open a role's ways on the stack; returns the settings that lead through them."""
        told: dict[str, Any] = {}
        for server in SERVERS:
            if urls := self._targets(server):
                ways = await self._opened(stack, (name, server), urls)
                told[f"{server}_url"] = ",".join(way.url for way in ways)
        if kind in SERVICES:
            told[f"{kind}_port"] = port = free_port()
            await self._opened(stack, (name, CLIENTS), [f"http://127.0.0.1:{port}"])
        return self._settings.model_copy(update=told)

    def to_clients(self, name: str) -> str:
        """The URL by which clients reach a service."""
        (way,) = self.all[name, CLIENTS]
        return way.url

    def by_role(self, target: str) -> list[list[TcpProxy]]:
        """The ways of each role to a server's hosts, or to each service those of the clients."""
        return [ways for (_, to), ways in self.all.items() if to == target]

    def to_target(self, target: str) -> list[TcpProxy]:
        """All of them."""
        return [way for ways in self.by_role(target) for way in ways]

    async def mend(self) -> None:
        """All lead again; the faults that heal are out of the HTTP proxies."""
        stay = [fault for fault in self.faults if isinstance(fault, TooLarge)]
        self.faults[:] = [self._observed, *stay]
        for ways in self.all.values():
            for way in ways:
                await way.mend()

    async def _opened(
        self, stack: AsyncExitStack, which: tuple[str, str], urls: list[str]
    ) -> list[TcpProxy]:
        ways = self.all[which] = [TcpProxy(url) for url in urls]
        for way in ways:
            await stack.enter_async_context(way)
        return ways

    async def _observed(self, request: Request, forward: Forward) -> Reply:
        for observer in self.observers:
            forward = partial(observer, forward=forward)
        return await forward(request)

    def _targets(self, server: str) -> list[str]:
        access = self._settings.access(server)
        if server == "elasticsearch":
            return [node.url for node in self._nodes]
        if server == "mongodb":
            return [f"{access.url}/?directConnection=true"]
        return [] if access.scheme.endswith("+sentinel") else access.urls
