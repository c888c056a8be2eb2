"""A command that is interrupted while MongoDB hangs ends, with its own exit code."""

import asyncio
import signal
from functools import partial
from pathlib import Path

import pytest

from pipeline.embedded.servers import EmbeddedServers
from pipeline.support.stopping import ROLE_GRACE
from tests.harness import Role, eventually


def waits(command: Role) -> bool:
    """Whether it asks MongoDB: the driver's threads run."""
    return len(list(Path(f"/proc/{command.pid}/task").iterdir())) > 2


@pytest.mark.drill
async def test_commands_end(own_servers: EmbeddedServers) -> None:
    settings = own_servers.settings
    async with Role(settings, "bank", "forwarder"), Role(settings, "bank", "worker") as worker:
        await eventually(lambda: "Has the partitions" in worker.log(), seconds=60)
        wanted = {("seal",): 130, ("partitions", "--watch"): 0}
        await own_servers.servers["mongodb"].kill(signal.SIGSTOP)
        commands = {words: Role(settings, "bank", *words) for words in wanted}
        try:
            await asyncio.gather(*(each.start() for each in commands.values()))
            for each in commands.values():
                await eventually(partial(waits, each), seconds=60)
            codes = {}
            for words, command in commands.items():
                await command.kill(signal.SIGINT)
                codes[words] = await command.wait(ROLE_GRACE + 2)
        finally:
            await own_servers.servers["mongodb"].kill(signal.SIGCONT)
            await asyncio.gather(*(each.close() for each in commands.values()))
    assert codes == wanted
