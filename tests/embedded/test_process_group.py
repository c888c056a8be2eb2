"""`--processes N`: processes of one role that share its work, answer as one and end as one."""

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from pipeline.embedded import process_group
from pipeline.embedded.health import WELL, ready
from pipeline.embedded.process_group import MOST_FAILURES, ProcessesFailed, ProcessGroup
from pipeline.embedded.process_reaper import GRACE
from pipeline.embedded.process_registry import alive
from pipeline.embedded.restarts import Backoff, ending
from pipeline.embedded.up import accounts_url, balances_url
from pipeline.eventstore import EventStore
from pipeline.operations.keys import Role as KeyRole
from pipeline.search import Elastic
from pipeline.support.settings import Settings, environment
from tests.fleet import Fleet
from tests.harness import LONG_LANE, Role, eventually
from tests.keys import holder, on
from tests.load import Load
from tests.ports import free_port
from tests.scrape import Scrape, scrape

PARTITIONS = 4
HALF_A_REQUEST = (
    b"POST /create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 100\r\n\r\n{"owner":'
)
Start = Callable[..., Awaitable[Role]]


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"partitions": PARTITIONS})


@pytest.fixture
async def fleet(settings: Settings, role: Start) -> AsyncIterator[Fleet]:
    fleet = Fleet(settings, role)
    yield fleet
    await fleet.close()


def processes_of(role: Role) -> list[int]:
    """The processes of a group, without the reaper."""
    found = []
    for pid in Path(f"/proc/{role.pid}/task/{role.pid}/children").read_text().split():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        found += [int(pid)] if "-I" not in words else []
    return found


def folders() -> set[Path]:
    """Those of groups, in which their processes answer each other."""
    return {each.parent for each in Path("/tmp").glob("bank-*/connections")}


async def well(role: Role, address: str) -> None:
    async def is_well() -> bool:
        assert role.exit_code is None, role.log()
        return await ready(address) == WELL

    await eventually(is_well, seconds=90, message="all processes are ready")


def by_process(page: Scrape, name: str, **labels: str) -> dict[str, float]:
    """The values of samples by their process; they have these labels, and maybe others."""
    found: dict[str, float] = {}
    for (sample, given), value in page.samples.items():
        if sample == name and labels.items() <= dict(given).items():
            process = dict(given)["process"]
            found[process] = found.get(process, 0) + value
    return found


async def shared(fleet: Fleet, **shares: int) -> None:
    """Wait until the owners have so many partitions."""
    wanted = sorted(name.replace("_", "-") for name, share in shares.items() for _ in range(share))

    async def so() -> bool:
        return sorted(owner or "" for owner in await fleet.owners()) == wanted

    await eventually(so, seconds=60, message=f"shares {shares}")


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_workers_share_partitions_and_a_page_and_replace_who_dies(
    settings: Settings, fleet: Fleet, role: Start, store: EventStore
) -> None:
    forwarder = await role("bank", "forwarder")
    port = str(free_port())
    address = f"http://127.0.0.1:{port}"
    group = await role("bank", "worker", "--id", "w", "--processes", "2", BANK_METRICS_PORT=port)
    await well(group, address)
    await shared(fleet, w_0=2, w_1=2)
    load = Load(store)
    for _ in range(20):
        await load.write(10)

    async def applied() -> dict[str, float]:
        page = await scrape(address)
        return by_process(page, "bank_worker_events_applied_total", projection="balance")

    async def all_applied() -> bool:
        return sum((await applied()).values()) == load.acknowledged

    await eventually(all_applied, message="each event is in the figures of one process")
    assert all(count > 0 for count in (await applied()).values())
    page = await scrape(address)
    assert by_process(page, "bank_build_info") == {"0": 1, "1": 1}
    assert page("bank_ready", role="worker", need="process", process="1") == 1

    os.kill(named(group, "worker 0"), signal.SIGKILL)

    async def told() -> bool:
        return await ready(address) == "process 0: does not answer."

    await eventually(told)
    page = await scrape(address)
    assert page("bank_ready", role="worker", need="process", process="0") == 0
    assert by_process(page, "bank_build_info") == {"1": 1}
    for _ in range(10):
        await load.write(10)
    await well(group, address)
    assert "worker 0 ended (SIGKILL); it starts again in 1 s" in group.log()
    await shared(fleet, w_0=2, w_1=2)
    await matches(settings, load)
    assert await forwarder.stop() == 0

    children = processes_of(group)
    assert await group.stop() == 0, group.log()
    assert not any(alive(pid) for pid in children)
    assert await fleet.owners() == [None] * PARTITIONS  # they have drained, and let go
    assert "Traceback" not in group.log()
    assert "did not drain" not in group.log()


def named(group: Role, name: str) -> int:
    """The id of the process of that name, as the log has it last."""
    return int(re.findall(rf"{name} is process (\d+)$", group.log(), re.MULTILINE)[-1])


async def matches(settings: Settings, load: Load) -> None:
    elastic = Elastic(settings.elasticsearch_url)

    async def same() -> bool:
        ids = list(load._versions)
        found = await elastic.mget("balance", ids)
        return all(
            (source := found[each].source) and source["version"] == load._versions[each]
            for each in ids
        )

    try:
        await eventually(same, seconds=60, message="each document is at its last version")
    finally:
        await elastic.close()


@asynccontextmanager
async def serving(
    settings: Settings, *, count: int = 2, **environ: str
) -> AsyncIterator[tuple[Role, str]]:
    """The account service as a group that is ready, and its address."""
    address = accounts_url(settings)
    async with Role(settings, "bank", "accounts", "--processes", str(count), **environ) as group:
        await well(group, address)
        yield group, address


async def sent(http: aiohttp.ClientSession, path: str, key: str, **body: object) -> str:
    """Send a command until it is answered; the account's id."""
    while True:
        try:
            async with http.post(path, json=body, headers={"Idempotency-Key": key}) as answer:
                if answer.status < 400:
                    return str((await answer.json())["id"])
                assert answer.status in (409, 503), await answer.text()
        except aiohttp.ClientError:
            await asyncio.sleep(0.01)


async def test_one_port_takes_every_command_once_while_a_process_dies(settings: Settings) -> None:
    async with serving(settings) as (group, address):
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(address, connector=connector) as http:
            hot = await sent(http, "/create", "hot", owner="Ada", money=0)

            async def client(number: int) -> str:
                own = await sent(http, "/create", f"{number}", owner="Ada", money=0)
                for n in range(20):
                    await sent(http, "/deposit", f"{number}-{n}", id=own, money=1)
                    await sent(http, "/deposit", f"{number}-{n}-hot", id=hot, money=1)
                return own

            clients = [asyncio.create_task(client(number)) for number in range(16)]
            await eventually(lambda: every_process_has_commands(address))
            os.kill(processes_of(group)[0], signal.SIGKILL)
            accounts = await asyncio.gather(*clients)
            for each, money in [(hot, 16 * 20), *((own, 20) for own in accounts)]:
                async with http.get(f"/{each}") as answer:
                    found = await answer.json()
                assert (found["balance"], found["version"]) == (money, money + 1)
        await well(group, address)
        assert await group.stop() == 0, group.log()
        assert "Traceback" not in group.log()


async def every_process_has_commands(address: str) -> bool:
    counts = by_process(await scrape(address), "bank_commands_total")
    return len(counts) == 2 and min(counts.values()) > 5


async def test_every_connection_hears_of_all_processes_with_exact_sums(settings: Settings) -> None:
    async with serving(settings, count=3) as (_, address):
        sessions = [aiohttp.ClientSession(address) for _ in range(30)]
        for each in sessions:  # one after another, each with a connection that it keeps
            async with each.post("/create", json={"owner": "Ada", "money": 1}) as answer:
                assert answer.status == 201
        page = await scrape(address)
        assert sum(by_process(page, "bank_commands_total").values()) == 30
        open_ones = by_process(page, "bank_http_connections")
        assert min(open_ones.values()) > 3, open_ones
        for each in sessions:
            async with each.get("/readyz") as answer:
                assert answer.status == 200
            async with each.get("/metrics") as answer:
                assert 'bank_build_info{process="2",role="accounts"' in await answer.text()
        await asyncio.gather(*(each.close() for each in sessions))
        newer = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with (
            aiohttp.ClientSession(address) as http,
            http.get("/metrics", headers=newer) as answer,
        ):
            assert answer.content_type == "application/openmetrics-text"
            text = await answer.text()
        assert text.endswith("# EOF\n")
        assert text.count("# EOF") == 1


@LONG_LANE
async def test_a_process_that_hangs_is_named_and_keeps_nobody_out(settings: Settings) -> None:
    async with serving(settings) as (group, address):
        victim = processes_of(group)[0]
        os.kill(victim, signal.SIGSTOP)
        try:
            for _ in range(10):  # each with a connection of its own
                async with (
                    aiohttp.ClientSession(address) as http,
                    http.post("/create", json={"owner": "Ada", "money": 1}) as answer,
                ):
                    assert answer.status == 201
            said = await ready(address)
            assert re.fullmatch(r"process [01]: does not answer\.", said)
            page = await scrape(address)
            assert len(by_process(page, "bank_build_info")) == 1
        finally:
            os.kill(victim, signal.SIGCONT)
        await well(group, address)


async def test_what_a_process_waits_for_is_told_with_its_number(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"mongodb_url": f"mongodb://127.0.0.1:{free_port()}"})
    address = accounts_url(nowhere)
    async with Role(nowhere, "bank", "accounts", "--processes", "2"):

        async def told() -> bool:
            said = await ready(address)
            return said == "process 0: waits for mongodb. process 1: waits for mongodb."

        await eventually(told)


async def test_metrics_ask_for_a_key_whichever_process_answers(settings: Settings) -> None:
    guarded, address = on(settings), balances_url(settings)
    viewer, teller = [await holder(guarded, each) for each in (KeyRole.VIEWER, KeyRole.TELLER)]
    async with Role(guarded, "bank", "balances", "--processes", "2"):

        async def both() -> bool:
            found = await scrape(address, viewer)
            return by_process(found, "bank_build_info") == {"0": 1, "1": 1}

        await eventually(both)
        for _ in range(6):
            assert await status_of(address) == 401
            assert await status_of(address, teller) == 403


async def status_of(address: str, headers: dict[str, str] | None = None) -> int:
    """That of the metrics, over a connection of its own."""
    async with (
        aiohttp.ClientSession(address) as http,
        http.get("/metrics", headers=headers) as answer,
    ):
        return answer.status


@pytest.mark.parametrize("log_format", ["json", "text"])
async def test_one_log_tells_which_process_wrote_each_line(
    settings: Settings, log_format: str
) -> None:
    async with serving(settings, BANK_LOG_FORMAT=log_format) as (group, _):
        os.kill(processes_of(group)[0], signal.SIGKILL)
        await eventually(lambda: "ended (SIGKILL)" in group.log())
        assert await group.stop() == 0
        lines = group.log().splitlines()
    if log_format == "json":
        told = [json.loads(line) for line in lines]
        assert {line["role"] for line in told} == {"accounts"}
        assert {line.get("process") for line in told} == {None, 0, 1}
    else:
        assert all(re.match(r"accounts( [01])? +\| 20", line) for line in lines), lines


async def test_a_second_signal_ends_all_at_once(settings: Settings) -> None:
    before = folders()
    async with serving(settings) as (group, address):
        children = processes_of(group)
        mine = {each for each in folders() - before if group_of(each, children)}
        assert mine
        _, client = await asyncio.open_connection("127.0.0.1", settings.accounts_port)
        client.write(HALF_A_REQUEST)

        async def begun() -> bool:
            page = await scrape(address)
            return sum(by_process(page, "bank_http_connections").values()) >= 2

        await eventually(begun)
        await group.kill(signal.SIGTERM)
        await eventually(lambda: "stopping" in group.log())
        assert group.exit_code is None
        await group.kill(signal.SIGTERM)
        assert await group.wait() == 128 + signal.SIGTERM
        await eventually(lambda: not any(alive(pid) for pid in children))
        await eventually(lambda: not mine & folders())
        client.close()


async def test_sigkill_of_the_parent_leaves_nothing(settings: Settings) -> None:
    before = folders()
    async with serving(settings) as (group, _):
        children = processes_of(group)
        assert len(children) == 2
        assert len(folders() - before) >= 1
        mine = {each for each in folders() - before if group_of(each, children)}
        await group.kill(signal.SIGKILL)
        await eventually(lambda: not any(alive(pid) for pid in children), seconds=GRACE + 20)
        await eventually(lambda: not mine & folders())


def group_of(folder: Path, children: list[int]) -> bool:
    """Whether these processes have that folder: they map a file of it."""
    return any(str(folder) in Path(f"/proc/{pid}/maps").read_text() for pid in children)


@pytest.mark.parametrize(
    ("name", "who", "setting"),
    [
        ("worker", "The metrics of the worker", "BANK_METRICS_PORT"),
        ("accounts", "The accounts service", "BANK_ACCOUNTS_PORT"),
    ],
)
async def test_a_taken_port_is_told_once(
    settings: Settings, name: str, who: str, setting: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        given = {setting: str(port)}
        async with Role(settings, "bank", name, "--processes", "2", **given) as group:
            assert await group.wait() == 1
            assert group.log() == (
                f"bank: {who} can't listen on 127.0.0.1:{port}: the port is taken. "
                f"Set {setting} to another one.\n"
            )


async def test_settings_that_are_wrong_start_nothing(settings: Settings) -> None:
    async with Role(settings, "bank", "worker", "--processes", "2", BANK_PARTITIONS="x") as group:
        assert await group.wait() == 1
        assert group.log().startswith("bank: BANK_PARTITIONS: ")
    wide = settings.model_copy(update={"host": "0.0.0.0"})
    async with Role(wide, "bank", "accounts", "--processes", "2") as group:
        assert await group.wait() == 1
        assert "lets other machines in" in group.log()


@LONG_LANE
async def test_an_error_at_every_start_ends_the_group_with_it(settings: Settings) -> None:
    lines: list[tuple[str, str]] = []
    group = ProcessGroup(
        "worker", ["worker", "--id", "no name!"], 2, lambda *line: lines.append(line)
    )
    with pytest.raises(ExceptionGroup) as raised:
        await group.run(settings.host, free_port(), "It", "metrics_port")
    (failed,) = raised.value.exceptions
    assert isinstance(failed, ProcessesFailed)
    assert failed.exit_code == 2
    assert "1 to 64 letters" in str(failed)
    ends = [name for name, line in lines if line.startswith("Error:")]
    assert sorted(set(ends)) == ["worker 0", "worker 1"]
    assert len(ends) >= 2 * MOST_FAILURES


async def test_who_does_not_drain_in_time_is_killed_and_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(process_group, "GRACE", 1.0)
    caplog.set_level("INFO")
    group = ProcessGroup("accounts", ["accounts"], 2, lambda *_: None)
    running = asyncio.create_task(
        group.run(settings.host, settings.accounts_port, "It", "accounts_port")
    )

    async def all_ready() -> bool:
        assert not running.done()
        return await ready(accounts_url(settings)) == WELL

    await eventually(all_ready, seconds=90)
    (pid,) = re.findall(r"accounts 1 is process (\d+)$", caplog.text, re.MULTILINE)
    os.kill(int(pid), signal.SIGSTOP)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert "accounts 1 did not drain (SIGKILL)" in caplog.text
    assert not alive(int(pid))


def test_pauses_grow_until_a_process_lives_long() -> None:
    backoff = Backoff()
    assert [backoff.pause(lived) for lived in (0, 5, 59, 0, 9, 0, 0)] == [1, 2, 4, 8, 16, 30, 30]
    assert [backoff.pause(lived) for lived in (61, 0)] == [1, 2]
    assert (ending(-signal.SIGKILL), ending(3)) == ("SIGKILL", "exit code 3")


async def test_one_process_is_what_it_was(settings: Settings) -> None:
    """Without the option: no parent, and no label."""
    async with Role(settings, "bank", "accounts", "--processes", "1") as alone:
        await well(alone, accounts_url(settings))
        assert processes_of(alone) == []
        page = await scrape(accounts_url(settings))
        assert page("bank_ready", role="accounts", need="mongodb") == 1
        assert not any("process" in dict(labels) for _, labels in page.samples)
