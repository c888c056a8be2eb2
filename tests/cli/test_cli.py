"""The `bank` command: helps, shows, tells what went wrong and what to do, leaves when asked."""

import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import click
import pytest
from click.testing import CliRunner, Result

from pipeline.cli.errors import explain
from pipeline.cli.main import main
from pipeline.embedded.process_registry import Process, read_processes, register
from pipeline.eventstore import StoreUnavailable
from pipeline.messaging import ServerTooOld
from pipeline.search import ProjectionUnavailable
from pipeline.support.settings import PREFIX, Settings
from tests.harness import Role, eventually
from tests.ports import free_port


def bank(*words: str, **environ: str) -> Result:
    """Run `bank` in this process, without the BANK_ variables of whoever runs the tests."""
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith(PREFIX)}
    return CliRunner().invoke(main, list(words), env={**clean, **environ})


def test_help_shows_every_command_and_examples() -> None:
    shown = bank("--help")
    assert shown.exit_code == 0
    assert len(main.commands) == 25
    for name in main.commands:
        assert f"\n  {name} " in shown.output
    assert "Examples:" in shown.output


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help(command: str) -> None:
    shown = bank(command, "--help")
    assert shown.exit_code == 0
    assert (main.commands[command].help or "").splitlines()[0] in shown.output


def test_settings_shows_meaning_default_and_value() -> None:
    shown = bank("settings", BANK_PARTITIONS="16")
    row = next(line for line in shown.output.splitlines() if "BANK_PARTITIONS" in line)
    assert " ".join(row.split()) == "BANK_PARTITIONS 16 8 Partitions of a new bank"


def test_settings_as_json_without_secrets() -> None:
    url = "mongodb://ann:secret@db:27017"
    shown = bank("settings", "--json", BANK_MONGODB_URL=url)
    assert "secret" not in shown.output
    by_name = {each["name"]: each for each in json.loads(shown.output)}
    assert by_name["BANK_MONGODB_URL"]["value"] == "mongodb://ann:***@db:27017"
    assert by_name["BANK_PARTITIONS"].keys() == {"name", "value", "default", "meaning"}


@pytest.mark.parametrize("command", sorted(set(main.commands) - {"settings"}))
def test_a_wrong_setting_is_named_by_every_command(command: str) -> None:
    wanted = [each for each in main.commands[command].params if isinstance(each, click.Argument)]
    failed = bank(command, *("1" for each in wanted if each.required), BANK_PARTITIONS="none")
    assert failed.exit_code == 1
    assert "BANK_PARTITIONS" in failed.stderr
    assert "Traceback" not in failed.output


def test_an_unknown_setting_is_named() -> None:
    failed = bank("settings", BANK_PARTITION="8")
    assert failed.exit_code == 1
    assert failed.stderr == "bank: BANK_PARTITION: no such setting (`bank settings` lists all)\n"


def test_status_of_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    shown = bank("status", BANK_DATA_DIR=str(tmp_path))
    assert shown.exit_code == 1
    assert "bank up" in shown.stderr


def test_status_tells_the_well_from_the_unwell(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    register(tmp_path, Process("worker", os.getpid(), ""))
    assert bank("status", BANK_DATA_DIR=str(tmp_path)).exit_code == 0
    register(tmp_path, Process("accounts", os.getpid(), f"http://127.0.0.1:{port}"))
    register(tmp_path, Process("redis", os.getpid(), f"redis://127.0.0.1:{port}"))
    shown = bank("status", "--json", BANK_DATA_DIR=str(tmp_path))
    assert shown.exit_code == 1
    health = {each["role"]: each["health"] for each in json.loads(shown.stdout)}
    assert health == {"worker": "ok", "accounts": "does not answer", "redis": "does not answer"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StoreUnavailable("down"), ["MongoDB", "down", "bank up"]),
        (ProjectionUnavailable("down"), ["Elasticsearch", "down", "bank up"]),
        (ServerTooOld("2.9 is too old"), ["2.9 is too old"]),
        (ConnectionRefusedError(111, "Connection refused"), ["refused", "bank up"]),
        (ExceptionGroup("", [ExceptionGroup("", [StoreUnavailable("down")])]), ["MongoDB"]),
        (KeyError("x"), ["KeyError", "BANK_LOG_LEVEL=DEBUG"]),
    ],
)
def test_failures_are_told_in_words(error: Exception, words: list[str]) -> None:
    failure = explain(error)
    assert failure.exit_code == 1
    assert all(word in failure.message for word in words)


@pytest.mark.parametrize("name", ["mongodb", "elasticsearch", "nats"])
async def test_verify_names_the_server_that_is_down(
    settings: Settings, name: str, role: Callable[..., Awaitable[Role]]
) -> None:
    async with (
        aiohttp.ClientSession(settings.elasticsearch_url) as http,
        http.put("/balance-1", json={"aliases": {"balance": {}}}),
    ):
        pass
    url = str(getattr(settings, f"{name}_url"))
    nowhere = f"{url.rpartition(':')[0]}:{free_port()}"
    verify = await role("bank", "verify", **{f"BANK_{name.upper()}_URL": nowhere})
    assert await verify.wait(60) == 2
    assert f"at {nowhere}: " in verify.log()
    assert "Traceback" not in verify.log()


async def test_a_service_that_can_not_listen_says_so(
    settings: Settings, role: Callable[..., Awaitable[Role]]
) -> None:
    with socket.create_server(("127.0.0.1", settings.accounts_port)):
        accounts = await role("bank", "accounts")
        assert await accounts.wait(60) == 1
    assert "BANK_ACCOUNTS_PORT" in accounts.log()
    assert "Traceback" not in accounts.log()


@pytest.mark.drill
@pytest.mark.parametrize("command", ["accounts", "balances", "forwarder", "worker"])
@pytest.mark.elasticsearch
async def test_a_role_leaves_at_the_first_signal(
    settings: Settings, role: Callable[..., Awaitable[Role]], command: str
) -> None:
    started = await role("bank", command)
    await eventually(lambda: "INFO" in started.log())
    await started.kill(signal.SIGTERM)
    assert await started.wait(60) == 0, started.log()
    assert "Traceback" not in started.log()


async def test_servers_says_where_and_leaves_none_behind(scratch: Path, settings: Settings) -> None:
    urls = {
        f"BANK_{name}_URL": f"{scheme}://127.0.0.1:{free_port()}"
        for name, scheme in (
            ("MONGODB", "mongodb"),
            ("NATS", "nats"),
            ("REDIS", "redis"),
            ("ELASTICSEARCH", "http"),
        )
    }
    async with Role(settings, "bank", "servers", BANK_DATA_DIR=str(scratch), **urls) as servers:
        await eventually(lambda: all(f" {url}\n" in servers.log() for url in urls.values()))
        again = Role(settings, "bank", "servers", BANK_DATA_DIR=str(scratch), **urls)
        async with again:
            assert await again.wait(60) == 1
            assert "run already" in again.log()
        await servers.kill(signal.SIGINT)
        assert await servers.wait(60) == 0
    assert read_processes(scratch) == []
