"""`bank seal`: what it prints, who can check it, and what it tells that the chain alone can't."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pymongo
import pytest
from click.testing import CliRunner, Result

from pipeline.banking.commands import Deposit
from pipeline.cli.main import main
from pipeline.commands import CommandContext
from pipeline.eventstore import EventStore
from pipeline.model.chain import NOTHING, link
from pipeline.operations.seal import InvalidSeal, new_key, sign, signed
from pipeline.support.settings import PREFIX, Settings, environment
from tests.accounts import account_service

CONTEXT = CommandContext("c")


def bank(settings: Settings, *words: str) -> Result:
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith(PREFIX)}
    return CliRunner().invoke(main, ["seal", *words], env={**clean, **environment(settings)})


def live(settings: Settings, accounts: int = 3, deposits: int = 4, known: str = "") -> list[str]:
    """Accounts with some events each, or more events of one account."""

    async def run() -> list[str]:
        store = EventStore(settings.mongodb_url, settings.mongodb_database)
        service = account_service(store)
        await service.open()
        ids = [known] if known else []
        while not known and len(ids) < accounts:
            ids.append((await service.create("Ann", 5, CONTEXT)).after.id)
        for each in ids:
            for money in range(1, deposits + 1):
                await service.execute(each, Deposit(money), CONTEXT)
        await store.close()
        return ids

    return asyncio.run(run())


def rewritten(settings: Settings, account: str, version: int, keep: bool = True) -> None:
    """Another amount in an event, or no event, and every hash after it made anew: as somebody
    would who may write into the store, and knows the chain."""
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False) as client:
        events = client[settings.mongodb_database]["events"]
        history: Any = list(events.find({"account_id": account}).sort("version", 1))
        events.delete_many({"account_id": account})
        if keep:
            history[version - 1]["body"]["money"] += 1000
        else:
            del history[version - 1]
        before = NOTHING
        for number, event in enumerate(history, 1):
            event["version"] = number
            link(event, before)
            before = event["hash"]
        events.insert_many(history)


def test_a_seal_has_the_heads_and_its_check_holds_while_the_bank_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    ids = live(settings)
    key, out = tmp_path / "key.pem", tmp_path / "today.seal"
    assert bank(settings, "--new-key", str(key)).exit_code == 0
    assert key.stat().st_mode & 0o777 == 0o600
    assert bank(settings, "--new-key", str(key)).exit_code == 1
    made = bank(settings, "--key", str(key), "--out", str(out))
    assert made.exit_code == 0, made.output
    *heads, last = map(json.loads, out.read_text().splitlines())
    assert {head["account"] for head in heads} == {*ids}
    assert all(head["version"] == 5 and len(head["hash"]) == 64 for head in heads)
    assert (last["accounts"], last["events"]) == (3, 15)
    live(settings, known=ids[0])
    live(settings, 2)
    checked = bank(settings, "--check", str(out), "--public-key", f"{key}.pub")
    assert checked.exit_code == 0, checked.output
    assert "3 sealed heads are in the chains of 5 accounts" in checked.output
    printed = bank(settings)
    assert json.loads(printed.stdout.splitlines()[-1])["accounts"] == 5


@pytest.mark.parametrize("version", [1, 3, 5])
@pytest.mark.parametrize("keep", [True, False], ids=["edited", "removed"])
def test_a_history_rewritten_with_all_its_hashes_is_told_by_a_seal(
    settings: Settings, tmp_path: Path, version: int, keep: bool
) -> None:
    _, account, _ = live(settings)
    out = tmp_path / "seal"
    assert bank(settings, "--out", str(out)).exit_code == 0
    live(settings, known=account)
    rewritten(settings, account, version, keep)
    told = bank(settings, "--check", str(out))
    assert told.exit_code == 1
    assert f"account {account}, version 5" in told.output


def test_an_account_that_is_gone_or_shorter_is_told(settings: Settings, tmp_path: Path) -> None:
    first, second, _ = live(settings)
    out = tmp_path / "seal"
    assert bank(settings, "--out", str(out)).exit_code == 0
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False) as client:
        events = client[settings.mongodb_database]["events"]
        events.delete_many({"account_id": first})
        events.delete_one({"account_id": second, "version": 5})
    told = bank(settings, "--check", str(out))
    assert told.exit_code == 1
    for account in (first, second):
        assert f"account {account}: version 5 is gone" in told.output


def test_no_seal_of_a_broken_chain(settings: Settings, tmp_path: Path) -> None:
    account, *_ = live(settings)
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False) as client:
        events = client[settings.mongodb_database]["events"]
        events.update_one({"account_id": account, "version": 2}, {"$set": {"body.money": 9}})
    out = tmp_path / "seal"
    told = bank(settings, "--out", str(out))
    assert told.exit_code == 1
    assert f"account {account}, version 2" in told.output
    assert not out.exists()


def test_a_changed_seal_or_signature_is_refused(settings: Settings, tmp_path: Path) -> None:
    live(settings)
    key, out = tmp_path / "key.pem", tmp_path / "seal"
    bank(settings, "--new-key", str(key))
    bank(settings, "--key", str(key), "--out", str(out))
    whole = out.read_bytes()

    def check() -> Result:
        return bank(settings, "--check", str(out), "--public-key", f"{key}.pub")

    assert check().exit_code == 0
    out.write_bytes(whole.replace(b'"version":5', b'"version":4', 1))
    assert "signature" in check().output
    assert check().exit_code == 1
    lines = whole.splitlines(keepends=True)
    for wrong in (
        b"",
        whole + b"{}\n",
        b"".join(lines[:-1]),
        b"".join(lines[1:]),
        b"".join(reversed(lines[:-1])) + lines[-1],
        b"[]\n" + whole,
        b'{"account": 5}\n' + whole,
    ):
        out.write_bytes(wrong)
        assert bank(settings, "--check", str(out)).exit_code == 2, wrong
    out.write_bytes(whole)
    Path(f"{out}.sig").unlink()
    assert check().exit_code == 2
    assert bank(settings, "--key", f"{key}.pub", "--out", str(out)).exit_code == 2
    assert bank(settings, "--key", str(key)).exit_code == 2


def test_a_signature_is_checked_by_openssl_too(tmp_path: Path) -> None:
    private, public = new_key()
    content, signature = b"heads\n", sign(b"heads\n", private)
    assert signed(content, signature, public)
    assert not signed(content + b" ", signature, public)
    assert not signed(content, signature[:-1], public)
    assert not signed(content, signature, new_key()[1])
    with pytest.raises(InvalidSeal):
        sign(content, public)
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    names = {"key.pem": private.encode(), "pub.pem": public.encode()}
    for name, data in {**names, "seal": content, "seal.sig": signature}.items():
        (tmp_path / name).write_bytes(data)
    words = "openssl pkeyutl -verify -pubin -inkey pub.pem -rawin -in seal -sigfile seal.sig"
    checked = subprocess.run(words.split(), cwd=tmp_path, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    made = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True
    )
    assert len(sign(content, made.stdout)) == 64
