"""`GET /traces/{correlation_id}` and `GET /stages`: the way of a command with its times."""

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from ulid import ULID

from api.balances import traces
from api.balances.app import create_app
from api.balances.connections import Connections
from pipeline.banking.balance import BALANCE
from pipeline.coordination.partitioning import ensure_log
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream, ServerTooOld
from pipeline.messaging.notifications import WrittenBatch, notify
from pipeline.model.events import Event, partition_of
from pipeline.operations.trace.written import KEPT_SECONDS
from pipeline.support.logs import moment
from pipeline.support.settings import Settings
from tests.bank import PARTITIONS, accounts, append, publish
from tests.conftest import placed
from tests.harness import eventually
from tests.services import Client, problem, serving


@pytest.fixture
async def client(settings: Settings, js: JetStream) -> AsyncIterator[Client]:
    settings = settings.model_copy(update={"partitions": PARTITIONS})
    await ensure_log(js, settings)
    async with serving(create_app(settings), ready=False) as client:
        yield client


async def stage_of(client: Client, name: str) -> int:
    """Of how many events the time of the stage is known."""
    async with client.get("/stages") as answer:
        assert answer.status == 200, await answer.text()
        found = await answer.json()
    return int({each["stage"]: each["events"] for each in found["data"]}[name])


async def test_a_command_is_followed(client: Client, js: JetStream, store: EventStore) -> None:
    [events] = accounts(1, 2)
    first: Event = {**events[0], "correlation_id": str(ULID())}
    second: Event = {**events[1], "correlation_id": "order/66 é"}
    await append(store, [[first, second]])
    await publish(js, [first, second])
    partition = partition_of(first["slot"], PARTITIONS)

    async def heard() -> bool:
        """Whether the service listens by now."""
        now = time.time()
        await notify(js, BALANCE, partition, PARTITIONS, WrittenBatch(1, 1, now, now))
        return await stage_of(client, "visible") == 1

    await eventually(heard)
    began = moment(time.time() - KEPT_SECONDS)
    async with client.get(f"/traces/{first['correlation_id']}") as answer:
        assert answer.status == 200, await answer.text()
        told = await answer.json()
    [event] = told["events"]
    assert (event["event_id"], event["stream"]["sequence"]) == (first["_id"], 1)
    assert began <= told["noted_since"] <= moment(time.time())
    [projected] = event["projections"]
    assert projected["projection"] == "balance"
    passed = [each["stage"] for each in projected["stages"] if each["at"]]
    assert passed == ["received", "decided", "forwarded", "delivered", "written", "visible"]

    path = f"/traces/{quote(second['correlation_id'], safe='')}"
    for query in ({"account": first["account_id"]}, {}):
        async with client.get(path, params=query) as answer:
            [event] = (await answer.json())["events"]
        [projected] = event["projections"]
        passed = [each["stage"] for each in projected["stages"] if each["at"]]
        assert passed == ["decided", "forwarded"]
    await problem(await client.get(path, params={"account": "nobody"}), 404, "trace-not-found")
    await problem(await client.get(f"/traces/{ULID()}"), 404, "trace-not-found")
    await problem(await client.get(f"/traces/{'x' * 101}"), 404, "not-found")
    await problem(await client.get("/traces/x?account=a%20b"), 400, "invalid-input")
    await problem(await client.get("/stages?projection=x"), 404, "projection-not-found")


async def test_without_a_log_no_stage_has_figures(settings: Settings) -> None:
    async with serving(create_app(settings), ready=False) as client:
        assert await stage_of(client, "forwarded") == 0


async def test_it_listens_although_it_could_not_connect_at_first(
    settings: Settings, js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"partitions": PARTITIONS})
    await ensure_log(js, settings)
    connect, tried = Connections.connected, 0

    async def connected(self: Connections) -> JetStream:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise ServerTooOld("2.9")
        return await connect(self)

    monkeypatch.setattr(Connections, "connected", connected)
    async with serving(create_app(settings), ready=False) as client:
        assert client.app is not None
        [written] = client.app[traces.TRACES]._written.values()

        async def heard() -> object:
            now = time.time()
            await notify(js, BALANCE, 3, PARTITIONS, WrittenBatch(1, 1, now, now))
            return written.of(3, 1)

        await eventually(heard)


async def test_who_gets_no_turn_is_told_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_DEADLINE", 0.2)
    assert client.app is not None
    room = client.app[traces.TRACES]._room
    async with room, room, asyncio.timeout(20):
        await problem(await client.get(f"/traces/{ULID()}"), 503, "store-unavailable")
    await problem(await client.get(f"/traces/{ULID()}"), 404, "trace-not-found")


async def test_servers_that_are_away(settings: Settings) -> None:
    async with serving(create_app(placed(settings.data_dir)), ready=False) as client:
        await problem(await client.get("/stages"), 503, "pipeline-unavailable")
        await problem(await client.get(f"/traces/{ULID()}"), 503, "store-unavailable")
