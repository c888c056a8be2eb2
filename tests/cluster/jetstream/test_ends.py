"""Each role ends within its grace after SIGTERM, although MongoDB and a nats-server hang."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from pipeline.embedded.health import WELL, ready
from pipeline.embedded.servers import EmbeddedServers, Server
from pipeline.messaging import JetStream
from pipeline.support.settings import Settings
from tests.cluster.nats import NatsCluster
from tests.conftest import placed
from tests.harness import Role, eventually
from tests.names import STREAM

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

GRACE = 15.0
"""Seconds after which `bank up` kills a role."""
ROLES = ("accounts", "balances", "forwarder", "worker")
ADA: dict[str, object] = {"owner": "Ada", "money": 100}


@pytest.fixture
async def mongodb(tmp_path: Path) -> AsyncIterator[Server]:
    """One of this test alone."""
    embedded = EmbeddedServers(placed(tmp_path / "mongodb"), ["mongodb"])
    await embedded.start()
    yield embedded.servers["mongodb"]
    await embedded.stop()


async def asking(http: aiohttp.ClientSession, path: str, body: dict[str, object]) -> None:
    """Send the command again and again, until the service is gone."""
    try:
        while True:
            async with http.post(path, json=body) as answer:
                await answer.read()
    except aiohttp.ClientError:
        return


async def test_each_role_ends_with_its_servers_frozen(
    settings: Settings, three: NatsCluster, mongodb: Server, js: JetStream, scratch: Path
) -> None:
    """The folder of the worker's data is made, with those above it."""
    folder = scratch / "not" / "there" / "yet"
    told = settings.model_copy(update={"mongodb_url": mongodb.url, "data_dir": folder})
    roles = {name: Role(told, "bank", name) for name in ROLES}
    url = f"http://127.0.0.1:{settings.accounts_port}"
    balances = f"http://127.0.0.1:{settings.balances_port}"
    async with aiohttp.ClientSession(url) as http:
        try:
            await asyncio.gather(*(each.start() for each in roles.values()))
            payer = await eventually(lambda: opened(http), seconds=180)
            transfer = {"from": payer, "to": await opened(http), "money": 1}
            await eventually(lambda: forwarded(js), seconds=180)
            await eventually(folder.is_dir, seconds=180)
            await eventually(lambda: well(balances), seconds=180)
            commands: list[tuple[str, dict[str, object]]] = [
                ("/create", ADA),
                ("/transfer", transfer),
            ]
            clients = [asyncio.create_task(asking(http, *each)) for each in commands * 8]
            await (await three.leader(js, STREAM)).kill(signal.SIGSTOP)
            await mongodb.kill(signal.SIGSTOP)
            codes = await asyncio.gather(*(each.stop(GRACE) for each in roles.values()))
            await asyncio.gather(*clients)
        finally:
            for each in (mongodb, *three.servers.values()):
                await each.kill(signal.SIGCONT)
            await asyncio.gather(*(each.close() for each in roles.values()))
    assert dict(zip(roles, codes, strict=True)) == dict.fromkeys(ROLES, 0)


async def well(address: str) -> bool:
    return await ready(address) == WELL


async def opened(http: aiohttp.ClientSession) -> str:
    """The id of a new account; empty if it was not opened."""
    async with http.post("/create", json=ADA) as answer:
        return str((await answer.json())["id"]) if answer.status == 201 else ""


async def forwarded(js: JetStream) -> bool:
    state = await js.state(STREAM)
    return state is not None and state.messages > 0
