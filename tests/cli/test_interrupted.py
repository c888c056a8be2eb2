"""A command that is interrupted says so and exits with 130, and one that goes on until then with 0.

Its servers take connections and never answer.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from pipeline.cli.failures import INTERRUPTED
from pipeline.cli.main import COMMANDS
from pipeline.embedded.process_registry import Process, register
from pipeline.support.settings import Settings
from tests.conftest import placed
from tests.harness import Role, some_of
from tests.services import NOBODY

ENDLESS = ("audit --follow", "partitions --watch", "tail")
ENDING = (
    "audit",
    f"events {NOBODY}",
    f"forget --yes {NOBODY}",
    "keys create --role viewer",
    "keys list",
    "keys revoke x",
    f"parked drop --yes {NOBODY}",
    "parked",
    f"parked retry {NOBODY}",
    f"parked show {NOBODY}",
    "partitions",
    "processes",
    "rebuild",
    "rebuild --dry-run",
    "rebuild cancel",
    "rebuild status",
    "repartition",
    "repartition 4",
    "replicas",
    "replicas 3",
    "seal",
    "status",
    f"trace {NOBODY}",
    "verify",
    "verify --repair",
)
HASTY = ("partitions", "partitions --watch", "status")
"""Those that go on without an answer after two or three seconds, which may pass before the signal
comes: they are given more."""
PATIENT = """
from pipeline.cli.main import main
from pipeline.embedded import health
from pipeline.operations.status import partitions

health._SECONDS = partitions._END = partitions._ALL = partitions._EVENTS = 600.0
main()
"""
OTHERS = {
    "asyncapi": "it asks nobody",
    "accounts": "a role, which ends with 0: test_cli.py",
    "balances": "the same",
    "demo": "its servers are its own",
    "forwarder": "a role",
    "openapi": "it asks nobody",
    "servers": "a role",
    "settings": "it asks nobody",
    "up": "it goes on until then",
    "worker": "a role",
}


def test_no_command_is_left_out() -> None:
    told = {each.split()[0] for each in (*ENDING, *ENDLESS)}
    assert told | set(OTHERS) == set(COMMANDS)


@asynccontextmanager
async def nobody_answers(folder: Path) -> AsyncIterator[tuple[Settings, asyncio.Event]]:
    """Settings of a bank on such servers, and whether one of them was asked."""
    asked = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        schemes = {"mongodb": "mongodb", "nats": "nats", "redis": "redis", "elasticsearch": "http"}
        urls = {f"{name}_url": f"{each}://127.0.0.1:{port}" for name, each in schemes.items()}
        register(folder, Process("accounts", os.getpid(), f"http://127.0.0.1:{port}"))
        yield placed(folder, **urls), asked


@pytest.mark.parametrize(
    "words",
    some_of([*ENDING, *ENDLESS], "partitions --watch", "rebuild", "verify --repair", "tail"),
)
async def test_it_says_that_it_was_interrupted(scratch: Path, words: str) -> None:
    program = ("python", "-c", PATIENT) if words in HASTY else ("bank",)
    async with (
        nobody_answers(scratch) as (settings, asked),
        Role(settings, *program, *words.split()) as command,
    ):
        with suppress(TimeoutError):
            async with asyncio.timeout(120):
                await asked.wait()
        assert asked.is_set(), (command.exit_code, command.log())
        await command.kill(signal.SIGINT)
        code = await command.wait()
        assert code == (0 if words in ENDLESS else INTERRUPTED), command.log()
        assert ("bank: interrupted" in command.log()) == (words not in ENDLESS)
        assert "Traceback" not in command.log()
