"""`bank … | head`: a command whose output nobody reads any more ends, and says nothing."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from pipeline.cli.closed_pipe import EXIT_CODE
from pipeline.coordination.partitioning import ensure_log
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.operations.keys import Role
from pipeline.support.settings import Settings, environment
from tests.bank import accounts, append
from tests.keys import holder

BANK = str(Path(sysconfig.get_path("scripts"), "bank"))


def unread(*words: str, settings: Settings | None = None) -> subprocess.CompletedProcess[str]:
    """The command with an output whose reader has gone."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BANK_")}
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [BANK, *words],
            env={**clean, **(environment(settings) if settings else {})},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        os.close(writing)


@pytest.mark.parametrize("words", [("settings",), ("--help",), ("status", "--help")])
def test_without_servers(words: tuple[str, ...]) -> None:
    found = unread(*words)
    assert (found.returncode, found.stderr) == (EXIT_CODE, "")


@pytest.mark.parametrize(
    "words",
    [
        ("keys",),
        ("keys", "list", "--json"),
        ("partitions",),
        ("partitions", "--json"),
        ("parked",),
        ("rebuild", "list"),
    ],
    ids=" ".join,
)
async def test_on_servers(settings: Settings, words: tuple[str, ...]) -> None:
    """They print by click or by rich, and some within a connection to a server."""
    await holder(settings, Role.VIEWER, name="prometheus")
    found = unread(*words, settings=settings)
    assert (found.returncode, found.stderr) == (EXIT_CODE, "")


async def test_on_events(settings: Settings, js: JetStream, store: EventStore) -> None:
    await ensure_log(js, settings)
    [history] = accounts(1, 3)
    await append(store, [history])
    for words in (f"events {history[0]['account_id']} --json", "tail --after beginning"):
        found = unread(*words.split(), settings=settings)
        assert (found.returncode, found.stderr) == (EXIT_CODE, ""), words
