"""A lone server, or a bank made with fewer replicas than BANK_STREAM_REPLICAS asks for: each role
and each command that can't go on says so; a bank that can go on warns. (tests/cluster has more.)"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
import pytest

from api.balances.connections import Connections
from api.http.problems import Problem
from pipeline.banking.balance import BALANCE
from pipeline.coordination.partitioning import ensure_log
from pipeline.embedded.health import ready, well
from pipeline.forwarder.metrics import ForwarderMetrics
from pipeline.messaging import JetStream, TooManyReplicas
from pipeline.messaging.replicas import Replicas, all_replicas, shortage
from pipeline.operations.checker.guards import stream_guards
from pipeline.support.readiness import readiness
from pipeline.support.settings import Settings
from pipeline.tables.epochs import raise_epoch
from pipeline.tables.rebuild_jobs import RebuildJobs
from tests.harness import Role, eventually
from tests.names import STREAM
from tests.ports import free_port

Start = Callable[..., Awaitable[Role]]
NAMED = "BANK_STREAM_REPLICAS is 3, which NATS can't do for"
WHY = "replicas > 1 not supported in non-clustered mode (10074)"


@pytest.fixture
def three(settings: Settings) -> Settings:
    """Settings that ask for three replicas, on the lone server."""
    return settings.model_copy(update={"stream_replicas": 3})


async def readyz(port: int) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/readyz") as answer,
    ):
        return answer.status, await answer.json()


async def test_roles_that_can_not_work_name_the_setting(settings: Settings, role: Start) -> None:
    ports = {"forwarder": free_port(), "worker": free_port()}
    for name, port in ports.items():
        await role("bank", name, BANK_STREAM_REPLICAS="3", BANK_METRICS_PORT=str(port))

    async def told(port: int) -> bool:
        status, said = await readyz(port)
        return status == 503 and f"nats: {NAMED}" in said["detail"]

    await eventually(partial(told, ports["forwarder"]), seconds=60)
    await eventually(partial(told, ports["worker"]), seconds=60)


async def test_a_forwarder_that_stands_by_is_not_ready_without_a_stream(js: JetStream) -> None:
    found, _ = await readiness({"nats": ForwarderMetrics(js=js).nats})
    assert found == {"nats": f"there is no stream {STREAM} yet"}


async def test_a_bucket_that_can_not_be_made_is_told(three: Settings, js: JetStream) -> None:
    """Of a bank that has its stream."""
    await ensure_log(js, three)
    worker = await JetStream.connect(three.nats, "worker")
    try:
        with pytest.raises(TooManyReplicas, match=f"{NAMED} KV_partitions"):
            await raise_epoch(worker, BALANCE, 0, "w1", 0)
        assert worker.full == f"{NAMED} KV_partitions: {WHY}"
    finally:
        await worker.close()


async def test_a_request_that_needs_such_a_bucket_is_told(three: Settings, js: JetStream) -> None:
    connections = Connections(three)
    try:
        with pytest.raises(Problem) as problem:
            async with connections.jetstream() as connected:
                await RebuildJobs(connected, BALANCE).start("online", [0], 8)
        assert f"NATS JetStream has too few servers: {NAMED} KV_rebuild" in str(
            problem.value.detail
        )
    finally:
        await connections.close()


async def test_a_command_that_needs_such_a_bucket_is_told(
    settings: Settings, js: JetStream, role: Start
) -> None:
    await ensure_log(js, settings)
    command = await role("bank", "rebuild", "--no-wait", BANK_STREAM_REPLICAS="3")
    assert await command.wait() == 1
    assert f"bank: NATS at {settings.nats_url}: {NAMED} KV_rebuild: {WHY}" in command.log()
    assert "Start" not in command.log()


async def test_a_bank_made_with_fewer_is_warned_of(
    three: Settings, js: JetStream, role: Start
) -> None:
    await ensure_log(js, three)
    await raise_epoch(js, BALANCE, 0, "w1", 0)
    warning = (
        "BANK_STREAM_REPLICAS is 3, but KV_partitions has 1, balance has 1: "
        "`bank replicas 3` gives all of them as many"
    )
    assert await stream_guards(js, three) == [f"JetStream: {warning}"]
    port = free_port()
    await role("bank", "forwarder", BANK_STREAM_REPLICAS="3", BANK_METRICS_PORT=str(port))

    async def warned() -> bool:
        return await readyz(port) == (200, {"status": "ok", "warnings": [warning]})

    await eventually(warned, seconds=60)
    shown = await ready(f"http://127.0.0.1:{port}")
    assert shown == f"ok; {warning}"
    assert well(shown)

    command = await role("bank", "replicas", "3", BANK_STREAM_REPLICAS="3")
    assert await command.wait() == 1
    assert f"bank: KV_partitions: {WHY}" in command.log()


async def test_what_is_not_the_banks_is_left_alone(js: JetStream, settings: Settings) -> None:
    await ensure_log(js, settings)
    for name in ("orders", "KV_partition", "balances", "KV_keystore"):
        await js.ensure_stream(name, [f"x.{name}"])
    assert await all_replicas(js) == [Replicas(STREAM, 1, 1)]


def test_a_stream_for_which_nobody_answers_is_not_said_to_have_too_few() -> None:
    assert shortage([Replicas("a"), Replicas("b", 3, 1, "n0"), Replicas("c", 5, 5, "n0")], 3) == ""
