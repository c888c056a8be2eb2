"""`bank parked`: lists, shows, retries, drops, and tells in words what it can't do."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from click.testing import CliRunner, Result

from pipeline.banking.balance import BALANCE
from pipeline.cli.main import main
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.model.events import Event, new_event
from pipeline.support.settings import PREFIX, Settings, environment
from pipeline.tables.parked_accounts import ParkedAccount, ParkedAccountList
from tests.bank import append, history
from tests.harness import Role, eventually
from tests.ports import free_port
from tests.tables.test_parked_accounts import ADA, BOB, park

T = TypeVar("T")


def bank(settings: Settings, *words: str, stdin: str = "", **changes: str) -> Result:
    """Run `bank parked` in this process."""
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith(PREFIX)}
    environ = {**clean, **environment(settings), **changes}
    return CliRunner().invoke(main, ["parked", *words], input=stdin, env=environ)


def do(settings: Settings, use: Callable[[ParkedAccountList], Awaitable[T]]) -> T:
    """What another process does with the list meanwhile."""

    async def connected() -> T:
        js = await JetStream.connect(settings.nats_url, "test")
        try:
            parked = ParkedAccountList(js, BALANCE)
            await parked.refresh()
            return await use(parked)
        finally:
            await js.close()

    return asyncio.run(connected())


def poisoned(settings: Settings, versions: int) -> list[Event]:
    """Store events of Ada's, of which the third can't be applied; park her for it."""
    events = history(ADA, versions)
    events[2] = new_event(ADA, 3, "MoneyBurnt", {"money": 1})

    async def stored() -> None:
        store = EventStore(settings.mongodb_url, settings.mongodb_database)
        await store.setup()
        await append(store, [events])
        await store.close()

    asyncio.run(stored())
    do(settings, park)
    return events


def test_nobody_is_parked(settings: Settings) -> None:
    shown = bank(settings)
    assert (shown.exit_code, shown.output) == (0, "no account is parked\n")
    shown = bank(settings, "--json")
    assert (shown.exit_code, json.loads(shown.stdout)) == (0, [])
    shown = bank(settings, "retry", "--all")
    assert (shown.exit_code, shown.output) == (0, "no account is parked\n")


def test_the_list(settings: Settings) -> None:
    ada = do(settings, lambda parked: park(parked, ADA, "a [red]mapping[/] error"))
    bob = do(settings, lambda parked: park(parked, BOB))
    do(settings, lambda parked: parked.ask_retry(BOB))
    shown = bank(settings)
    assert shown.exit_code == 0
    heads, *rows = (" ".join(line.split()) for line in shown.output.splitlines())
    assert heads == "account version kind waiting since attempts reason"
    assert rows == [
        f"{ADA} 3 MoneyBurnt {ada.since} 1 a [red]mapping[/] error",
        f"{BOB} 3 MoneyBurnt {bob.since} 1, asked again no such kind",
    ]
    listed = json.loads(bank(settings, "--json").stdout)
    assert [(each["account_id"], each["retry"]) for each in listed] == [(ADA, False), (BOB, True)]


def test_one_with_its_event(settings: Settings) -> None:
    events = poisoned(settings, 7)
    shown = bank(settings, "show", ADA)
    assert shown.exit_code == 0, shown.output
    fields = dict(line.split(maxsplit=1) for line in shown.output.partition("\n\n")[0].splitlines())
    assert fields["waiting"] == "5"
    assert fields["reason"] == "no such kind"
    assert fields["version"] == "3"
    event = json.loads(shown.output[shown.output.index("{") :])
    assert event["_id"] == events[2]["_id"]
    assert event["kind"] == "MoneyBurnt"
    shown = bank(settings, "show", ADA, "--json")
    assert json.loads(shown.stdout)["event"] == event
    assert json.loads(shown.stdout)["waiting"] == 5


def test_one_whose_event_is_not_stored(settings: Settings) -> None:
    do(settings, park)
    shown = bank(settings, "show", ADA)
    assert shown.exit_code == 0
    assert "waiting     0\n" in shown.output
    assert "no version 3" in shown.output


@pytest.mark.parametrize("command", ["show", "retry", "drop"])
def test_one_that_is_not_parked(settings: Settings, command: str) -> None:
    do(settings, park)
    words = [ADA] if command != "show" else []
    failed = bank(settings, command, *words, BOB)
    assert failed.exit_code == 1
    assert f"{BOB} is not parked" in failed.stderr
    assert [each.retry for each in do(settings, everybody)] == [False], "nothing by halves"


def test_to_ask_without_waiting(settings: Settings) -> None:
    do(settings, lambda parked: park(parked, ADA))
    do(settings, lambda parked: park(parked, BOB))
    shown = bank(settings, "retry", ADA, ADA, "--wait", "0")
    assert (shown.exit_code, shown.output) == (0, f"{ADA}: asked\n")
    assert [each.retry for each in do(settings, everybody)] == [True, False]
    assert bank(settings, "retry", "--all", "--wait", "0").exit_code == 0
    assert [each.retry for each in do(settings, everybody)] == [True, True]


def test_no_worker_answers(settings: Settings) -> None:
    do(settings, park)
    shown = bank(settings, "retry", ADA, "--wait", "0.3")
    assert shown.exit_code == 1
    assert shown.output == f"{ADA}: no worker answered within 0.3 s; it stays asked\n"
    assert [each.retry for each in do(settings, everybody)] == [True]


@pytest.mark.parametrize("words", [[], [ADA, "--all"], [ADA, "--wait", "-1"]])
def test_what_can_not_be_asked(settings: Settings, words: list[str]) -> None:
    assert bank(settings, "retry", *words).exit_code == 2


async def test_each_outcome_is_told(
    settings: Settings, role: Callable[..., Awaitable[Role]]
) -> None:
    js = await JetStream.connect(settings.nats_url, "test")
    worker = ParkedAccountList(js, BALANCE)
    await park(worker, ADA)
    await park(worker, BOB)
    asking = await role("bank", "parked", "retry", "--all", "--wait", "60")
    await eventually(lambda: asked(worker, ADA))
    await worker.drop(ADA)
    await eventually(lambda: f"{ADA}: applied\n" in asking.log())
    await eventually(lambda: asked(worker, BOB))
    await park(worker, BOB, "still no such kind")
    assert await asking.wait(60) == 1
    assert f"{BOB}: parked again: still no such kind\n" in asking.log()
    asking = await role("bank", "parked", "retry", BOB)
    await eventually(lambda: asked(worker, BOB))
    await worker.drop(BOB)
    assert await asking.wait(60) == 0
    assert asking.log() == f"{BOB}: applied\n"
    await js.close()


async def asked(parked: ParkedAccountList, account_id: str) -> bool:
    await parked.refresh()
    return parked[account_id].retry


def test_to_drop_is_asked_twice(settings: Settings) -> None:
    do(settings, park)
    for stdin in ("", "n\n"):
        refused = bank(settings, "drop", ADA, stdin=stdin)
        assert refused.exit_code == 1
        assert "repairs nothing" in refused.output
        assert len(do(settings, everybody)) == 1
    dropped = bank(settings, "drop", ADA, stdin="y\n")
    assert dropped.exit_code == 0
    assert f"{ADA}: dropped" in dropped.output
    assert do(settings, everybody) == []
    do(settings, park)
    dropped = bank(settings, "drop", ADA, "--yes")
    assert dropped.exit_code == 0
    assert dropped.output == f"{ADA}: dropped; its document stays as it is\n"
    assert do(settings, everybody) == []


async def everybody(parked: ParkedAccountList) -> list[ParkedAccount]:
    return parked.all()


@pytest.mark.parametrize("words", [[], ["show", ADA], ["retry", "--all"], ["drop", ADA, "--yes"]])
def test_a_server_that_does_not_answer_is_named(
    settings: Settings, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.connections._SECONDS", 0.5)
    nowhere = f"nats://ann:secret@127.0.0.1:{free_port()}"
    failed = bank(settings, *words, BANK_NATS_URL=nowhere)
    assert failed.exit_code == 1
    assert f"NATS at {nowhere.replace('secret', '***')}: no answer in time" in failed.stderr
    assert "BANK_NATS_URL" in failed.stderr


def test_show_names_the_event_store_that_does_not_answer(settings: Settings) -> None:
    do(settings, park)
    failed = bank(settings, "show", ADA, BANK_MONGODB_URL=f"mongodb://127.0.0.1:{free_port()}")
    assert failed.exit_code == 1
    assert "MongoDB does not answer" in failed.stderr
