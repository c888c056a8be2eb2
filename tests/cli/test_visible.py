"""What people or the stores hold is shown without what a terminal would obey."""

import asyncio
import json
import logging
import os
from dataclasses import replace
from typing import Final

import pytest
from click.testing import CliRunner
from rich.errors import MarkupError

from pipeline.banking.balance import BALANCE
from pipeline.cli.failures import Failure
from pipeline.cli.formatting import console, echo, plain_table
from pipeline.cli.main import main
from pipeline.cli.partitions import _table
from pipeline.cli.rebuild_watch import Bars
from pipeline.embedded.process_registry import Process, register
from pipeline.messaging import JetStream
from pipeline.model.visible import visible
from pipeline.operations import keys
from pipeline.operations.keys import Role
from pipeline.operations.status.partitions import PartitionStatus, Reading
from pipeline.operations.status.probe import Unknown
from pipeline.support import logs
from pipeline.support.settings import Settings, environment
from pipeline.tables.parked_accounts import ParkedAccountList
from pipeline.tables.rebuild_job import RebuildJob, RebuildPart
from tests.keys import kept
from tests.services import NOBODY

HOSTILE: Final = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\x00\r"
MARKUP: Final = ("[/x]", "index [balance-0] blocked", "[red]a[/red] \\[b]")
BAD: Final = {"\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\x00", "\r"}


def test_by_each_of_the_ways(capsys: pytest.CaptureFixture[str]) -> None:
    table = plain_table("name")
    table.add_row(HOSTILE)
    console().print(table)
    console().print(HOSTILE, markup=False)
    echo(HOSTILE)
    echo(HOSTILE, err=True)
    Failure(HOSTILE, 1).show()
    out, err = capsys.readouterr()
    assert not BAD & {*out, *err}
    assert out.count("gnp.exe") == 3
    assert err.count("gnp.exe") == 2


def test_no_cell_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = plain_table("name")
    for text in MARKUP:
        table.add_row(text)
    console().print(table)
    out = capsys.readouterr().out
    assert all(text in out for text in MARKUP)


def test_progress_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console(err=True).print(HOSTILE, markup=False)
    bars = Bars()
    bars._out.width = 200
    part = RebuildPart("j", 0, state="replaying", total=9, owner=f"{HOSTILE}{MARKUP[0]}.1")
    job = RebuildJob("j", "online", "building", (0,), 1, 1, started="2026-01-31T12:00:00Z")
    bars.show(job, [part])
    bars._out.print(bars._progress)
    err = capsys.readouterr().err
    assert err.count("gnp.exe") == 2
    assert MARKUP[0] in err
    assert not BAD & {*err}


def test_bank_status_shows_what_a_role_says(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(settings.data_dir, Process("accounts", os.getpid(), "http://127.0.0.1:1"))

    async def said(processes: list[Process]) -> list[str]:
        return [" ".join(MARKUP) for _ in processes]

    monkeypatch.setattr("pipeline.cli.status.all_health", said)
    result = CliRunner().invoke(main, ["status"], env={**environment(settings)})
    assert result.exit_code == 1
    assert not isinstance(result.exception, MarkupError)
    assert all(text in result.output for text in MARKUP), result.output


def test_bank_partitions_shows_owners_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    status = PartitionStatus(0, MARKUP[0], None, None, None, None, MARKUP[1], None, 0)
    hidden = replace(status, owner_unknown=MARKUP[2])
    console().print(_table(Reading([status, hidden], {}, Unknown("x"), Unknown("x"), 0, None)))
    out = capsys.readouterr().out
    assert all(text in out for text in MARKUP)


def test_bank_settings_shows_values_as_they_are(settings: Settings) -> None:
    there = settings.data_dir / "a[/x]"
    assert "a[/x]" in bank(settings.model_copy(update={"data_dir": there}), "settings")


def test_lone_surrogates_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    echo("a\udc80b")
    assert capsys.readouterr().out == "a\\udc80b\n"


def test_lines_stay_where_there_are_some() -> None:
    assert visible("a\n\tb", lines=True) == "a\n\tb"
    assert visible("a\nb") == "a\\u000ab"


def test_json_stays_what_it_was() -> None:
    text = f"{HOSTILE}\ufffe\U0001fffe\\"
    assert json.loads(visible(json.dumps(text, ensure_ascii=False), lines=True)) == text


def test_in_the_log(settings: Settings) -> None:
    lines: list[str] = []

    class Stream:
        def write(self, text: str) -> None:
            lines.append(text)

        def flush(self) -> None:
            pass

    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.setup(settings, "test", Stream())
        logging.getLogger("x").warning("%s", HOSTILE)
    finally:
        root.handlers[:], root.level = before
    assert "gnp.exe" in lines[0]
    assert not BAD & {*lines[0]}


def bank(settings: Settings, *words: str) -> str:
    result = CliRunner().invoke(main, words, env={**environment(settings)})
    assert result.exit_code == 0, result.output
    return result.output


async def stored(settings: Settings) -> None:
    key, _ = keys.new(Role.VIEWER)
    await kept(settings, key.model_copy(update={"name": HOSTILE}))
    js = await JetStream.connect(settings.nats_url, "test")
    lot = ParkedAccountList(js, BALANCE)
    await lot.park(NOBODY, version=1, event_id="01JE", kind=HOSTILE, reason=HOSTILE)
    await js.close()


def test_names_of_keys_and_reasons_of_parked_accounts(settings: Settings) -> None:
    """Of a bank that took them before, or of somebody who writes into the stores."""
    asyncio.run(stored(settings))
    for words in (("keys",), ("keys", "--json"), ("parked",), ("parked", "show", NOBODY)):
        output = bank(settings, *words)
        assert "gnp.exe" in output
        assert not BAD & {*output}, words


@pytest.mark.parametrize("name", [" ", "a\x1b[2J", "\u202ea", "a\nb", "é" * 101])
def test_a_key_gets_no_such_name(name: str) -> None:
    result = CliRunner().invoke(main, ["keys", "create", "--role", "viewer", "--name", name])
    assert result.exit_code == 2
    assert "--name: Must" in result.output
