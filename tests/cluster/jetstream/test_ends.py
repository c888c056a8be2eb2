"""Each role ends within its grace after SIGTERM, although MongoDB and a nats-server hang."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from pipeline.embedded.servers import EmbeddedServers, Server
from pipeline.messaging import STREAM, JetStream
from pipeline.support.settings import Settings
from tests.cluster.nats import NatsCluster
from tests.conftest import placed
from tests.harness import Role, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GRACE = 15.0
"""Seconds after which `bank up` kills a role."""
ROLES = ("accounts", "balances", "forwarder", "worker")
ADA = {"owner": "Ada", "money": 1}


@pytest.fixture
async def mongodb(tmp_path: Path) -> AsyncIterator[Server]:
    """One of this test alone."""
    embedded = EmbeddedServers(placed(tmp_path / "mongodb"), ["mongodb"])
    await embedded.start()
    yield embedded.servers["mongodb"]
    await embedded.stop()


async def asking(http: aiohttp.ClientSession) -> int:
    """Open accounts until that is not possible any more; the last answer, 0 for none."""
    try:
        while True:
            async with http.post("/create", json=ADA) as answer:
                if answer.status != 201:
                    return answer.status
    except aiohttp.ClientError:
        return 0


async def test_each_role_ends_with_its_servers_frozen(
    settings: Settings, three: NatsCluster, mongodb: Server, js: JetStream, scratch: Path
) -> None:
    """The folder of the worker's data is made, with those above it."""
    folder = scratch / "not" / "there" / "yet"
    told = settings.model_copy(update={"mongodb_url": mongodb.url, "data_dir": folder})
    roles = {name: Role(told, "bank", name) for name in ROLES}
    url = f"http://127.0.0.1:{settings.accounts_port}"
    async with aiohttp.ClientSession(url) as http:
        try:
            await asyncio.gather(*(each.start() for each in roles.values()))
            await eventually(lambda: opened(http), seconds=90)
            await eventually(lambda: forwarded(js), seconds=60)
            await eventually(folder.is_dir, seconds=60)
            clients = [asyncio.create_task(asking(http)) for _ in range(20)]
            await asyncio.sleep(0)
            await (await three.leader(js, STREAM)).kill(signal.SIGSTOP)
            await mongodb.kill(signal.SIGSTOP)
            await asyncio.wait(clients, return_when=asyncio.FIRST_COMPLETED)
            codes = await asyncio.gather(*(each.stop(GRACE) for each in roles.values()))
            await asyncio.gather(*clients)
        finally:
            for each in (mongodb, *three.servers.values()):
                await each.kill(signal.SIGCONT)
            await asyncio.gather(*(each.close() for each in roles.values()))
    assert dict(zip(roles, codes, strict=True)) == dict.fromkeys(ROLES, 0)


async def opened(http: aiohttp.ClientSession) -> bool:
    async with http.post("/create", json=ADA) as answer:
        return answer.status == 201


async def forwarded(js: JetStream) -> bool:
    state = await js.state(STREAM)
    return state is not None and state.messages > 0
