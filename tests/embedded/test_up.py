"""`bank up`: one terminal, one log; what dies is said; it ends in order, nothing is left."""

import json
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import nats
import pytest

from pipeline.embedded.health import WELL, ready
from pipeline.embedded.log_lines import LogLines, RoleStream
from pipeline.embedded.process_registry import Process, alive, read_processes
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.traffic import Traffic, session
from pipeline.embedded.up import accounts_url, balances_url
from pipeline.support.settings import Settings
from tests.conftest import placed
from tests.harness import LONG_LANE, Role, eventually

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
ROLES = ["forwarder", "worker", "accounts", "balances"]


@pytest.fixture
async def up(scratch: Path) -> AsyncIterator[tuple[Role, Settings]]:
    settings = placed(scratch, partitions=PARTITIONS)
    async with Role(settings, "bank", "up") as role:
        await eventually(
            lambda: "The bank is open" in role.log() or role.exit_code is not None,
            seconds=180,
            message="the bank opens",
        )
        assert role.exit_code is None, role.log()
        yield role, settings


def running(settings: Settings) -> dict[str, Process]:
    return {process.role: process for process in read_processes(settings.data_dir)}


async def metrics(process: Process) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{process.address}/metrics") as answer:
        assert answer.status == 200
        return await answer.text()


async def test_up_runs_it_all_and_ends_in_order(up: tuple[Role, Settings]) -> None:
    role, settings = up
    processes = running(settings)
    assert processes.keys() == {*SERVER_BINARIES, *ROLES}
    assert await ready(accounts_url(settings)) == WELL
    assert await ready(balances_url(settings)) == WELL
    assert f"curl localhost:{settings.accounts_port}/create" in role.log()
    status = Role(settings, "bank", "status", "--json")
    async with status:
        assert await status.wait() == 0, status.log()
        shown = {each["role"]: each for each in json.loads(status.log())}
        assert shown.keys() == processes.keys()
        assert all(each["address"] for each in shown.values())
    for each in ROLES:
        assert f'bank_build_info{{role="{each}"' in await metrics(processes[each])

    await role.kill(signal.SIGINT)
    assert await role.wait(90) == 0, role.log()
    assert running(settings) == {}
    assert not any(alive(process.pid) for process in processes.values())
    assert "Traceback" not in role.log()


@LONG_LANE
async def test_a_role_that_dies_is_said_and_started_again(up: tuple[Role, Settings]) -> None:
    role, settings = up
    before = running(settings)["accounts"].pid
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: "accounts died (SIGKILL)" in role.log())
    await eventually(lambda: running(settings)["accounts"].pid != before)

    async def well() -> bool:
        return await ready(accounts_url(settings)) == WELL

    await eventually(well)


async def test_a_server_that_dies_ends_it_with_its_name(up: tuple[Role, Settings]) -> None:
    role, settings = up
    processes = running(settings)
    os.kill(processes["redis"].pid, signal.SIGKILL)
    assert await role.wait(90) == 1
    assert "bank: redis died" in role.log()
    assert not any(alive(process.pid) for process in processes.values())


@LONG_LANE
async def test_nothing_survives_its_sigkill(up: tuple[Role, Settings]) -> None:
    role, settings = up
    processes = running(settings)
    await role.kill(signal.SIGKILL)
    await eventually(
        lambda: not any(alive(process.pid) for process in processes.values()), seconds=60
    )


@LONG_LANE
async def test_a_second_one_says_that_one_runs(up: tuple[Role, Settings]) -> None:
    role, settings = up
    async with Role(settings, "bank", "up") as second:
        assert await second.wait(60) == 1
        assert "run already" in second.log()
    elsewhere = settings.model_copy(update={"data_dir": settings.data_dir / "other"})
    async with Role(elsewhere, "bank", "up") as third:
        assert await third.wait(60) == 1
        assert "is taken" in third.log()
        assert "bank up --without" in third.log()
    assert role.exit_code is None


def test_every_line_tells_its_role(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LogLines()
    lines("worker", "hello")
    RoleStream("up", lines).write("one\ntwo\n")
    LogLines(prefix=False)("worker", '{"a": 1}')
    assert capsys.readouterr().err.splitlines() == [
        "worker    | hello",
        "up        | one",
        "up        | two",
        '{"a": 1}',
    ]


async def test_stream_consumers_and_lag_can_be_inspected(up: tuple[Role, Settings]) -> None:
    """What docs/inspect.md shows of the nats command line, through its Python sibling."""
    _, settings = up
    client = await nats.connect(settings.nats_url)
    js = client.jetstream()
    worker = running(settings)["worker"].pid

    async def lag() -> dict[int, int]:
        infos = [await js.consumer_info("balance", f"balance-{p}") for p in range(PARTITIONS)]
        return {p: i.num_pending + i.num_ack_pending for p, i in enumerate(infos)}

    async def floors() -> list[int]:
        infos = [await js.consumer_info("balance", f"balance-{p}") for p in range(PARTITIONS)]
        return [info.ack_floor.stream_seq for info in infos if info.ack_floor]

    async def drained() -> bool:
        return sum((await lag()).values()) == 0

    await eventually(drained)
    before, stream = await floors(), await js.stream_info("balance")
    assert stream.config.metadata == {**(stream.config.metadata or {}), "partitions": "4"}
    os.kill(worker, signal.SIGSTOP)
    try:
        async with session(accounts_url(settings)) as http:
            traffic = Traffic(http, seed=1)
            await traffic.open_accounts(40)

        async def all_waiting() -> bool:
            return sum((await lag()).values()) == 40

        await eventually(all_waiting)
        assert await floors() == before
    finally:
        os.kill(worker, signal.SIGCONT)
    await eventually(drained, seconds=60)
    last = [(await js.get_last_msg("balance", f"balance.{p}")).seq for p in range(PARTITIONS)]
    assert await floors() == last
    assert (await js.stream_info("balance")).state.messages == stream.state.messages + 40
    await client.close()


async def test_another_application_takes_commands_as_it_says(scratch: Path) -> None:
    settings = placed(
        scratch, application="tests.api.aggregates.orders:SHOP", projections="lines", partitions=1
    )
    async with Role(settings, "bank", "up", PYTHONPATH=str(ROOT)) as role:
        await eventually(lambda: "shop runs" in role.log(), seconds=180, message="it runs")
        assert running(settings).keys() == {*SERVER_BINARIES, *ROLES}
        shown = re.search(r"curl localhost(:\d+/\S+) -H '(.*): (.*)' -d '(.*)'", role.log())
        assert shown is not None, role.log()
        place, name, value, body = shown.groups()
        async with aiohttp.ClientSession(headers={name: value}) as http:
            async with http.post(f"http://127.0.0.1{place}", data=body) as answer:
                assert answer.status == 201, await answer.text()
                order = (await answer.json())["id"]
            document = f"{balances_url(settings)}/projections/lines/{order}"
            async with http.get(document, params={"min_version": "1", "timeout": "30"}) as answer:
                assert (await answer.json())["lines"] == 1
        await role.kill(signal.SIGINT)
        assert await role.wait(90) == 0, role.log()
