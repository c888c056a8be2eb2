"""A role ends within its grace after SIGTERM, although a server stands still, without an answer."""

import asyncio
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest

from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.servers import EmbeddedServers
from pipeline.support.stopping import ROLE_GRACE
from tests.harness import Role, eventually, some_of
from tests.ports import free_port

pytestmark = [pytest.mark.drill, pytest.mark.timeout(300)]

ACCOUNT = {"owner": "Ada", "money": 1000}


class Clients:
    """Many at once, each of which asks again as soon as it has an answer, until it is refused."""

    def __init__(self, http: aiohttp.ClientSession, accounts: int, balances: int) -> None:
        self._http = http
        self._accounts = f"http://127.0.0.1:{accounts}"
        self._balances = f"http://127.0.0.1:{balances}"
        self._ids: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.statuses: set[int] = set()

    async def begin(self) -> None:
        await eventually(self._are_ready, seconds=90)
        await asyncio.gather(*(self._open() for _ in range(20)))
        one, other = self._ids[:2]
        transfer = {"from": one, "to": other, "money": 1}
        requests = [
            ("POST", f"{self._accounts}/create", ACCOUNT),
            ("POST", f"{self._accounts}/transfer", transfer),
            ("GET", f"{self._balances}/?limit=10", None),
        ]
        self._tasks = [asyncio.create_task(self._ask(*each)) for each in requests * 6]
        await eventually(lambda: {200, 201} <= self.statuses)
        self.statuses.clear()

    async def end(self) -> None:
        await asyncio.gather(*self._tasks)

    async def _are_ready(self) -> bool:
        statuses = []
        for address in (self._accounts, self._balances):
            async with self._http.get(f"{address}/readyz") as answer:
                statuses.append(answer.status)
        return statuses == [200, 200]

    async def _open(self) -> None:
        async with self._http.post(f"{self._accounts}/create", json=ACCOUNT) as answer:
            self._ids.append((await answer.json())["id"])

    async def _ask(self, method: str, url: str, body: dict[str, object] | None) -> None:
        try:
            while True:
                async with self._http.request(method, url, json=body) as answer:
                    self.statuses.add(answer.status)
                await asyncio.sleep(0.05)
        except aiohttp.ClientError:
            return


@pytest.fixture
async def roles(own_servers: EmbeddedServers) -> AsyncIterator[dict[str, Role]]:
    ports = {"accounts_port": free_port(), "balances_port": free_port()}
    settings = own_servers.settings.model_copy(update=ports)
    names = ("accounts", "balances", "forwarder", "worker")
    started = {name: Role(settings, "bank", name) for name in names}
    await asyncio.gather(*(each.start() for each in started.values()))
    yield started
    await asyncio.gather(*(each.close() for each in started.values()))


@pytest.mark.parametrize("frozen", some_of(SERVER_BINARIES, "nats"))
async def test_each_role_ends(
    own_servers: EmbeddedServers, roles: dict[str, Role], frozen: str
) -> None:
    ports = [
        int(roles[name].environ[f"BANK_{name.upper()}_PORT"]) for name in ("accounts", "balances")
    ]
    async with aiohttp.ClientSession() as http:
        clients = Clients(http, *ports)
        await clients.begin()
        await own_servers.servers[frozen].kill(signal.SIGSTOP)
        try:
            if frozen in ("mongodb", "elasticsearch"):
                # All clients and each part of the roles have met it by then.
                await eventually(lambda: 503 in clients.statuses, seconds=60)
            codes = await asyncio.gather(*(each.stop(2 * ROLE_GRACE) for each in roles.values()))
        finally:
            await own_servers.servers[frozen].kill(signal.SIGCONT)
        await clients.end()
    assert dict(zip(roles, codes, strict=True)) == dict.fromkeys(roles, 0)
