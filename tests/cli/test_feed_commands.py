"""`bank tail`, `bank events`, `bank openapi` and `bank asyncapi`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from openapi_spec_validator import validate

from pipeline.cli.main import main
from pipeline.coordination.partitioning import ensure_log
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.model.events import Event
from pipeline.model.visible import CONTROLS
from pipeline.support.settings import Settings
from tests.bank import accounts, append, as_delivered, publish
from tests.cli.test_visible import HOSTILE
from tests.conftest import placed
from tests.harness import Role, eventually
from tests.services import NOBODY


async def ended(settings: Settings, *words: str) -> tuple[int, str]:
    async with Role(settings, "bank", *words) as command:
        return await command.wait(), command.log()


async def stored(js: JetStream, store: EventStore, history: Sequence[Event]) -> None:
    await append(store, [history])
    await publish(js, history)


async def test_tail_goes_on_from_a_position(
    settings: Settings, js: JetStream, store: EventStore
) -> None:
    await ensure_log(js, settings)
    first, second = accounts(2, 3)
    second[1]["body"] = {"owner": f"{HOSTILE}\U0001fffe"}
    await stored(js, store, first)

    def shown(command: Role) -> list[dict[str, Any]]:
        return [json.loads(line) for line in command.log().splitlines()]

    words = ("bank", "tail", "--json", "--after")
    async with Role(settings, *words, "beginning") as following:
        await eventually(lambda: len(shown(following)) == 3)
        await stored(js, store, second)
        await eventually(lambda: len(shown(following)) == 6)
        found = shown(following)
        assert not CONTROLS.search(following.log().replace("\n", ""))
        assert await following.stop() == 0
    assert [each["data"] for each in found] == as_delivered([*first, *second])
    account = second[0]["account_id"]
    only = ("--account", account, "--kinds", "AccountCreated")
    async with Role(settings, *words, found[1]["position"], *only) as following:
        # Twice, if its slot comes later in the store: it is in the log, too.
        await eventually(lambda: shown(following))
        assert {each["id"] for each in shown(following)} == {second[0]["_id"]}


async def test_the_events_of_an_account(settings: Settings, store: EventStore) -> None:
    """A terminal is shown none of what it would obey, and JSON stays the same."""
    [history] = accounts(1, 3)
    history[1]["body"] = {"owner": f"{HOSTILE}\u2028\x7f\ufffe\U0001fffe\\u001b\n"}
    await append(store, [history])
    account = history[0]["account_id"]
    code, shown = await ended(settings, "events", account, "--json")
    assert (code, [json.loads(line) for line in shown.splitlines()]) == (0, as_delivered(history))
    code, text = await ended(settings, "events", account)
    assert (code, text.count("\n"), "gnp.exe" in text) == (0, 3, True)
    assert not CONTROLS.search((shown + text).replace("\n", ""))
    code, shown = await ended(settings, "events", NOBODY)
    assert (code, shown) == (1, f"bank: no event of {NOBODY}\n")


async def test_the_documents_need_no_server(scratch: Path) -> None:
    away = placed(scratch)
    code, shown = await ended(away, "openapi", "balances")
    assert code == 0, shown
    validate(json.loads(shown))
    assert "/events" in json.loads(shown)["paths"]
    post = away.model_copy(update={"application": "tests.apps.post:POST", "projections": "places"})
    code, shown = await ended(post, "asyncapi")
    assert code == 0, shown
    assert json.loads(shown)["channels"]["log"]["address"] == "post-log.{partition}"
    code, shown = await ended(post, "openapi")
    assert (code, "post has no aggregate to command" in shown) == (1, True)


@pytest.mark.parametrize("words", ["tail --after then", "tail --account a/b", "events a/b"])
def test_what_is_asked_for_amiss(words: str) -> None:
    assert CliRunner().invoke(main, words.split()).exit_code == 2
