"""`GET /{id}?min_version=&timeout=`: whoever wrote reads it, or is told that it is not there."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.eventstore import EventStore
from pipeline.model.events import new_event
from pipeline.support.settings import Settings
from tests.harness import LONG_LANE, Role, eventually
from tests.proxy import HttpProxy
from tests.proxy.http import Forward, Reply, Request

pytestmark = pytest.mark.elasticsearch

Start = Callable[..., Awaitable[Role]]
ACCOUNT = "01J00000000000000000000000"


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    url = f"http://127.0.0.1:{settings.balances_port}"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        yield session


async def get(http: aiohttp.ClientSession, path: str) -> tuple[int, dict[str, Any]]:
    async with http.get(path) as answer:
        return answer.status, await answer.json(content_type=None)


async def opened(store: EventStore, account_id: str = ACCOUNT) -> None:
    await store.append(new_event(account_id, 1, CREATED, {"owner": "Ada", "money": 5}))


async def deposit(store: EventStore, version: int, account_id: str = ACCOUNT) -> None:
    await store.append(new_event(account_id, version, DEPOSITED, {"money": 1}))


async def ready(http: aiohttp.ClientSession, role: Start) -> Role:
    """A bank that projects, and its reader; returns the worker."""
    await role("bank", "forwarder")
    worker = await role("bank", "worker")
    await role("python", "-m", "api.balances")
    await eventually(lambda: get(http, "/livez"))
    await eventually(lambda: worker.log().count("goes on after") >= 8)
    return worker


async def test_every_write_is_read_at_once(
    store: EventStore, http: aiohttp.ClientSession, role: Start
) -> None:
    await ready(http, role)
    await opened(store)
    for version in range(1, 40):
        if version > 1:
            await deposit(store, version)
        status, document = await get(http, f"/{ACCOUNT}?min_version={version}&timeout=30")
        assert (status, document["version"], "stale" in document) == (200, version, False)
        assert document["balance"] == 4 + version


@pytest.mark.drill
async def test_what_is_not_there_in_time_is_told(
    store: EventStore, http: aiohttp.ClientSession, role: Start
) -> None:
    worker = await ready(http, role)
    status, _ = await get(http, f"/{ACCOUNT}?min_version=1&timeout=0.3")
    assert status == 404
    await opened(store)
    assert (await get(http, f"/{ACCOUNT}?min_version=1&timeout=30"))[0] == 200
    await worker.kill(signal.SIGSTOP)
    await deposit(store, 2)
    began = time.monotonic()
    status, document = await get(http, f"/{ACCOUNT}?min_version=2&timeout=0.5")
    assert (status, document["version"], document["stale"]) == (200, 1, True)
    assert time.monotonic() - began >= 0.5
    waiting = asyncio.create_task(get(http, f"/{ACCOUNT}?min_version=2&timeout=30"))
    await worker.kill(signal.SIGCONT)
    status, document = await waiting
    assert (status, document["version"], "stale" in document) == (200, 2, False)


MALFORMED = (
    "min_version=0",
    "min_version=x",
    "min_version=-1",
    "min_version=1.5",
    "min_version=1&min_version=2",
    "min_verson=1",
    "timeout=-1",
    "timeout=31",
    "timeout=nan",
)


async def test_a_malformed_wait_is_refused(http: aiohttp.ClientSession, role: Start) -> None:
    await role("python", "-m", "api.balances")
    await eventually(lambda: get(http, "/livez"))
    for query in MALFORMED:
        status, problem = await get(http, f"/{ACCOUNT}?{query}")
        assert (status, problem["type"]) == (400, "/problems/invalid-input"), query


@LONG_LANE
@pytest.mark.drill
async def test_many_who_wait_cost_about_what_one_does(
    settings: Settings, store: EventStore, http: aiohttp.ClientSession, role: Start
) -> None:
    """NATS is not even there for this service: it looks a few times a second, for all at once."""
    looks: list[str] = []

    async def count(request: Request, forward: Forward) -> Reply:
        if request.path.endswith("_mget"):
            looks.append(request.path)
        return await forward(request)

    async with HttpProxy(settings.elasticsearch_url) as proxy:
        proxy.faults.append(count)
        await role("bank", "forwarder")
        worker = await role("bank", "worker")
        other = "nats://127.0.0.1:9"
        service = {"BANK_ELASTICSEARCH_URL": proxy.url, "BANK_NATS_URL": other}
        await role("python", "-m", "api.balances", **service)
        await eventually(lambda: get(http, "/livez"))
        await eventually(lambda: worker.log().count("goes on after") >= 8)
        ids = [f"01K{number:023d}" for number in range(1000)]

        async def waits(count: int) -> float:
            """Looks a second while so many wait in vain."""
            looks.clear()
            began = time.monotonic()
            paths = [f"/{each}?min_version=1&timeout=2" for each in ids[:count]]
            answers = await asyncio.gather(*(get(http, path) for path in paths))
            assert {status for status, _ in answers} == {404}
            return len(looks) / (time.monotonic() - began)

        one, many = await waits(1), await waits(1000)
        print(f"looks a second: {one:.1f} for one, {many:.1f} for a thousand")
        assert one < 20
        assert many < 3 * one
        waiting = [get(http, f"/{each}?min_version=1&timeout=30") for each in ids[:200]]
        answers = asyncio.gather(*waiting)
        await asyncio.gather(*(opened(store, each) for each in ids[:200]))
        assert [document["version"] for _, document in await answers] == [1] * 200
