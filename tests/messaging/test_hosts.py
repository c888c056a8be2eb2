"""Several nats-servers in one URL: any that answers will do, and the credentials hold for all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pipeline.embedded.processes import Child, Children, small_environment
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.messaging import JetStream
from pipeline.messaging.fast_path import plain_frame
from pipeline.support.settings import Settings
from tests.harness import LONG_LANE, eventually
from tests.ports import free_port
from tests.proxy import TcpProxy

NATS = SERVER_BINARIES["nats"]


@pytest.mark.parametrize("scheme", ["", "nats://"])
async def test_a_client_starts_and_goes_on_with_one_that_answers(
    settings: Settings, scheme: str
) -> None:
    async with TcpProxy(settings.nats_url) as one, TcpProxy(settings.nats_url) as other:
        await one.cut()
        url = f"nats://127.0.0.1:{one.port},{scheme}127.0.0.1:{other.port}"
        js = await JetStream.within(5, url, "test")
        await js.ping()
        await one.mend()
        await other.cut()
        await eventually(lambda: answers(js))
        await js.close()


async def answers(js: JetStream) -> bool:
    await js.ping()
    return True


def port_of(js: JetStream) -> int | None:
    return js.nc.connected_url.port if js.nc.connected_url else None


@asynccontextmanager
async def two(folder: Path, *options: str) -> AsyncIterator[list[tuple[int, Child]]]:
    """The ports and the processes of two nats-servers in a cluster, without JetStream."""
    children = Children()
    routes = [f"nats://127.0.0.1:{free_port()}" for _ in range(2)]
    found = []
    try:
        for route in routes:
            port = free_port()
            command = NATS.command("127.0.0.1", port, folder / str(port))[:-3]
            command += [*options, "--cluster_name", "bank", "--cluster", route]
            command += ["--routes", ",".join(routes)]
            log = folder / f"{port}.log"
            found.append((port, children.start("nats", command, env=small_environment(), log=log)))
        yield found
    finally:
        await children.close()


async def test_the_name_and_password_hold_for_a_server_that_another_one_tells_of(
    tmp_path: Path,
) -> None:
    """Members of a cluster tell clients of one another, without credentials."""
    async with two(tmp_path, "--user", "bank", "--pass", "secret") as ((one, child), (other, _)):
        js = await JetStream.within(10, f"nats://bank:secret@127.0.0.1:{one}", "test")
        await eventually(lambda: js.nc.discovered_servers)
        child.kill()
        await eventually(lambda: js.nc.is_connected and port_of(js) == other)
        await js.close()


@LONG_LANE
async def test_a_server_that_stands_still_is_left_whatever_was_sent_to_it(tmp_path: Path) -> None:
    """More than its buffers take: it is not waited for that they get empty."""
    async with two(tmp_path) as ((one, child), (other, _)):
        url = f"nats://127.0.0.1:{one},127.0.0.1:{other}"
        js = await JetStream.connect(url, "test", dont_randomize=True)
        await eventually(lambda: port_of(js) == one)
        await child.pause()
        await js.nc.publish_frames([plain_frame("any", bytes(500_000))] * 50)
        await eventually(lambda: js.nc.is_connected and port_of(js) == other, seconds=60)
        await js.close()
