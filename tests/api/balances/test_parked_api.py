"""Parked accounts over HTTP: seen, retried, dropped, and a problem while NATS is away."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse

from api.balances.app import create_app
from pipeline.banking.balance import BALANCE
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccountList
from tests.bank import append, history
from tests.conftest import placed
from tests.harness import eventually
from tests.ports import free_port
from tests.services import NOBODY, Client, problem, serving
from tests.tables.test_parked_accounts import ADA, BOB, park


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[ParkedAccountList]:
    """The list as a worker has it."""
    js = await JetStream.connect(settings.nats_url, "test")
    yield ParkedAccountList(js, BALANCE)
    await js.close()


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings), ready=False) as client:
        yield client


async def test_the_list(bank: Client, worker: ParkedAccountList) -> None:
    async with bank.get("/parked") as answer:
        assert answer.status == 200
        assert await answer.json() == {"data": [], "has_more": False}
    await park(worker, ADA)
    await park(worker, BOB)
    async with bank.get("/parked") as answer:
        listed = await answer.json()
    assert listed == {"data": [asdict(each) for each in worker.all()], "has_more": False}
    await worker.drop(ADA)
    async with bank.get("/parked") as answer:
        assert [each["account_id"] for each in (await answer.json())["data"]] == [BOB]


async def test_one_and_how_many_events_wait(
    bank: Client, worker: ParkedAccountList, settings: Settings
) -> None:
    await park(worker)
    async with bank.get(f"/parked/{ADA}") as answer:
        assert await answer.json() == {**asdict(worker[ADA]), "waiting": 0}
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    await append(store, [history(ADA, 7)])
    await store.close()
    async with bank.get(f"/parked/{ADA}") as answer:
        assert await answer.json() == {**asdict(worker[ADA]), "waiting": 5}


async def test_a_retry_is_accepted(bank: Client, worker: ParkedAccountList) -> None:
    for account_id in (ADA, "a/b %"):
        await park(worker, account_id)
        path = f"/parked/{quote(account_id, safe='')}"
        async with bank.post(f"{path}/retry") as answer:
            assert answer.status == 202
            assert answer.headers["Location"] == path
            accepted = await answer.json()
        assert await worker.refresh() == {account_id}
        assert worker[account_id].retry
        assert accepted == asdict(worker[account_id])


async def test_one_is_dropped(bank: Client, worker: ParkedAccountList) -> None:
    await park(worker)
    async with bank.delete(f"/parked/{ADA}") as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    assert await worker.refresh() == {ADA}
    assert ADA not in worker
    await problem(await bank.delete(f"/parked/{ADA}"), 404, "not-parked")


async def test_what_is_not_there(bank: Client, worker: ParkedAccountList) -> None:
    await park(worker)
    for answer in (
        await bank.get(f"/parked/{NOBODY}"),
        await bank.post(f"/parked/{NOBODY}/retry"),
        await bank.delete(f"/parked/{NOBODY}"),
    ):
        document = await problem(answer, 404, "not-parked")
        assert document["account"] == NOBODY
    await problem(await bank.get(f"/parked/{ADA}/retry"), 405, "method-not-allowed")
    await problem(await bank.delete("/parked"), 405, "method-not-allowed")
    await problem(await bank.get("/parked/"), 404, "not-found")


async def test_without_the_event_store(settings: Settings, worker: ParkedAccountList) -> None:
    await park(worker)
    nowhere = settings.model_copy(update={"mongodb_url": f"mongodb://127.0.0.1:{free_port()}"})
    async with serving(create_app(nowhere), ready=False) as client:
        await problem(await client.get(f"/parked/{ADA}"), 503, "store-unavailable")
        async with client.get("/parked") as answer:
            assert answer.status == 200


async def unavailable(answer: ClientResponse) -> None:
    await problem(answer, 503, "pipeline-unavailable")
    assert answer.headers["Retry-After"]


async def test_nats_comes_and_goes(
    settings: Settings, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service starts without it, finds it, and finds it again; also one that only hangs."""
    monkeypatch.setattr("api.balances.connections.PATIENCE", 0.5)
    embedded = EmbeddedServers(placed(scratch), ["nats"])
    there = settings.model_copy(update={"nats_url": embedded.settings.nats_url})
    async with serving(create_app(there), ready=False) as client:
        async with client.get("/livez") as alive:
            assert alive.status == 200
        for answer in await asyncio.gather(
            client.get("/parked"),
            client.get(f"/parked/{ADA}"),
            client.post(f"/parked/{ADA}/retry"),
            client.delete(f"/parked/{ADA}"),
        ):
            await unavailable(answer)
        await embedded.start()
        try:
            server = embedded.servers["nats"]
            await eventually(lambda: listed(client))
            await server.kill(signal.SIGSTOP)
            await unavailable(await client.get("/parked"))
            await server.kill(signal.SIGCONT)
            await eventually(lambda: listed(client))
            await server.kill(signal.SIGKILL)
            await server.wait_dead()
            await unavailable(await client.get("/parked"))
            await server.start()
            await eventually(lambda: listed(client))
        finally:
            await embedded.stop()


async def listed(client: Client) -> bool:
    async with client.get("/parked") as answer:
        return answer.status == 200


async def test_it_stops_while_it_still_looks_for_nats(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"nats_url": f"nats://127.0.0.1:{free_port()}"})
    async with serving(create_app(nowhere), ready=False) as client:
        asking = asyncio.create_task(client.get("/parked"))
        await eventually(
            lambda: any("JetStream.connect" in str(each) for each in asyncio.all_tasks())
        )
    await asyncio.gather(asking, return_exceptions=True)
