"""The whole bank over TLS with credentials to all four servers, and no word of any secret."""

import asyncio
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from pydantic import SecretStr

from pipeline.embedded.up import accounts_url, balances_url
from pipeline.support.access import SERVERS
from pipeline.support.settings import PREFIX, Settings
from tests.harness import LONG_LANE, Role, eventually
from tests.secure.servers import USER, Servers, violations

UP = ("bank", "up", *(f"--without={server}" for server in SERVERS))
PATIENCE = 200.0
NAMES = {"mongodb": "MongoDB", "nats": "NATS", "redis": "Redis", "elasticsearch": "Elasticsearch"}
WRONG = {server: f"wrong-password-of-{server}" for server in SERVERS}


def by_files(settings: Settings, servers: Servers) -> tuple[Settings, dict[str, str]]:
    """The settings without passwords, and the variables that name files with them."""
    empty = {f"{server}_password": SecretStr("") for server in SERVERS}
    folder = servers.made / "bank"
    files = {
        f"{PREFIX}{server.upper()}_PASSWORD_FILE": str(folder / f"{server}_password")
        for server in SERVERS
    }
    return settings.model_copy(update={"keys": "on", **empty}), files


def forms(user: str, secret: str) -> set[str]:
    """How a secret may look in a text."""
    encoded = {
        b64encode(text.encode()).decode().rstrip("=") for text in (secret, f"{user}:{secret}")
    }
    return {secret, quote(secret, safe=""), *encoded}


class Overheard:
    """All that the bank says, and what must not be in it."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.secrets: set[str] = set()

    def leaks(self) -> list[str]:
        """Where a secret stands in a text, with what is before it."""
        return [
            f"{name}: {text[max(0, text.index(secret) - 300) : text.index(secret)]}"
            for name, text in self.texts.items()
            for secret in self.secrets
            if secret in text
        ]


@pytest.fixture
def overheard(guarded: Servers) -> Overheard:
    found = Overheard()
    for server in SERVERS:
        found.secrets |= forms(USER, guarded.password(server)) | forms(USER, WRONG[server])
    key = (guarded.made / "bank" / "client.pem").read_text()
    found.secrets.add(key.partition("BEGIN PRIVATE KEY-----\n")[2][:40])
    return found


COMMANDS = """
import sys, traceback
from pipeline.cli.main import main
for words in sys.argv[1:]:
    try:
        main(words.split(), standalone_mode=False)
    except BaseException as error:
        traceback.print_exc()
        getattr(error, "show", print)()
"""


async def told_by(role: Role, *commands: str) -> tuple[str, str]:
    """What commands of the bank write in the role's environment: their output, and their errors."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", COMMANDS, *commands],
        env=role.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout, done.stderr


def test_a_secret_that_got_out_would_be_seen() -> None:
    overheard = Overheard()
    overheard.secrets = forms("bank", "a/b")
    assert overheard.secrets == {"a/b", "a%2Fb", "YS9i", "YmFuazphL2I"}
    overheard.texts = {"fine": "bank a", "plain": "x a/b", "basic": "Basic YmFuazphL2I="}
    assert overheard.leaks() == ["plain: x ", "basic: Basic "]


@pytest.mark.timeout(900)
async def test_a_command_gets_through_and_no_secret_gets_out(
    settings: Settings, guarded: Servers, overheard: Overheard, scratch: Path
) -> None:
    told, files = by_files(settings, guarded)
    bank = Role(told, *UP, BANK_LOG_LEVEL="DEBUG", **files)

    async with bank:
        await eventually(lambda: "Ctrl-C ends it" in bank.log(), seconds=PATIENCE)
        made = [f"keys create --role {role} --name {role}" for role in ("teller", "viewer")]
        output, overheard.texts["keys create"] = await told_by(bank, *made)
        teller, viewer = ({"Authorization": f"Bearer {token}"} for token in output.split())
        overheard.secrets |= {secret for token in output.split() for secret in (token, token[22:])}
        async with aiohttp.ClientSession() as http:
            opened = await eventually(
                lambda: opened_account(http, settings, teller), seconds=PATIENCE
            )

            async def projected() -> bool:
                url = f"{balances_url(settings)}/{opened['id']}"
                async with http.get(url, headers=viewer) as answer:
                    return answer.status == 200 and (await answer.json())["balance"] == 500

            assert await eventually(projected, seconds=PATIENCE)
            for base in (accounts_url(settings), balances_url(settings)):
                for path in ("/metrics", "/readyz", "/partitions", "/openapi.json"):
                    async with http.get(base + path, headers=viewer) as answer:
                        overheard.texts[base + path] = await answer.text()
            refused = {"Authorization": teller["Authorization"][:-1]}
            async with http.get(balances_url(settings), headers=refused) as answer:
                assert answer.status == 401
                overheard.texts["401"] = await answer.text()
        told_all = await told_by(bank, "settings", "status", "partitions", "keys", "verify")
        assert "each document equals the fold" in told_all[0]
        overheard.texts["commands"] = "".join(told_all)
        overheard.texts["processes.json"] = (settings.data_dir / "processes.json").read_text()
        await bank.stop()
        overheard.texts["bank up"] = bank.log()
    assert len(overheard.texts["bank up"]) > 10_000
    assert overheard.leaks() == []
    assert violations(scratch) == []


async def opened_account(
    http: aiohttp.ClientSession, settings: Settings, key: dict[str, str]
) -> dict[str, Any]:
    body = {"owner": "Ada", "money": 500}
    async with http.post(f"{accounts_url(settings)}/create", json=body, headers=key) as answer:
        assert answer.status == 201, await answer.text()
        return dict(await answer.json())


@LONG_LANE
@pytest.mark.timeout(900)
async def test_who_is_refused_says_so_and_waits(settings: Settings, overheard: Overheard) -> None:
    """And what it says names the setting and the server, and not what was wrong with it."""
    told = {"mongodb": "verify", "nats": "keys", "redis": "partitions", "elasticsearch": "verify"}

    async def refused(server: str, command: str) -> None:
        wrong = settings.model_copy(update={f"{server}_password": SecretStr(WRONG[server])})
        said = f"{NAMES[server]} refuses our credentials"
        async with Role(wrong, "bank", "worker", BANK_LOG_LEVEL="DEBUG") as role:
            await eventually(lambda: said in role.log(), seconds=PATIENCE, message=said)
            output, errors = await told_by(role, command)
            assert role.exit_code is None
            assert f"BANK_{server.upper()}_PASSWORD" in role.log()
            # `bank partitions` gives each server two seconds, and then says no more than that.
            assert said in output + errors or server == "redis"
            await role.stop()
            overheard.texts |= {
                f"worker, {server}": role.log(),
                f"{command}, {server}": output + errors,
            }

    async with asyncio.TaskGroup() as tasks:
        for server, command in told.items():
            tasks.create_task(refused(server, command))
    assert len(overheard.texts) == 2 * len(told)
    assert overheard.leaks() == []


async def test_what_is_wrong_with_a_file_ends_a_role_at_once(
    settings: Settings, tmp_path: Path
) -> None:
    role = Role(settings, "bank", "worker", BANK_REDIS_CERT_FILE=str(tmp_path / "none"))
    async with role:
        assert await role.wait(PATIENCE) == 1
        assert "bank: BANK_REDIS_CERT_FILE: the file can't be read" in role.log()
