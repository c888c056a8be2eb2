"""Several nats-servers in one URL: any that answers will do, and the credentials hold for all."""

from pathlib import Path

import pytest

from pipeline.embedded.processes import Children, small_environment
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.messaging import JetStream
from pipeline.support.settings import Settings
from tests.harness import eventually
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


async def test_the_name_and_password_hold_for_a_server_that_another_one_tells_of(
    tmp_path: Path,
) -> None:
    """Members of a cluster tell clients of one another, without credentials."""
    children = Children()
    routes = [f"nats://127.0.0.1:{free_port()}" for _ in range(2)]
    ports = [free_port(), free_port()]
    try:
        found = []
        for route, port in zip(routes, ports, strict=True):
            folder = tmp_path / str(port)
            command = NATS.command("127.0.0.1", port, folder)[:-3]  # no JetStream
            command += ["--user", "bank", "--pass", "secret", "--cluster_name", "bank"]
            command += ["--cluster", route, "--routes", ",".join(routes)]
            environ, log = small_environment(), folder.with_suffix(".log")
            found.append(children.start("nats", command, env=environ, log=log))
        js = await JetStream.within(10, f"nats://bank:secret@127.0.0.1:{ports[0]}", "test")
        await eventually(lambda: js.nc.discovered_servers)
        found[0].kill()
        await eventually(lambda: js.nc.is_connected and port_of(js) == ports[1])
        await js.close()
    finally:
        await children.close()
