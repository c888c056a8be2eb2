"""The whole bank in one terminal: `up`, and `demo`, which puts it under load and checks it."""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, get_type_hints

import click
from rich.markup import escape
from rich.table import Table

from pipeline.application import Application
from pipeline.cli.closed_pipe import ending_with_reader
from pipeline.cli.failures import INTERRUPTED, CommandFailed
from pipeline.cli.formatting import console
from pipeline.cli.progress import Steps
from pipeline.cli.running import run
from pipeline.cli.verify import show
from pipeline.embedded.demo import Result
from pipeline.embedded.demo import demo as run_demo
from pipeline.embedded.log_lines import LogLines, RoleStream
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.startup_checks import EmbeddedError
from pipeline.embedded.up import accounts_url, balances_url, running
from pipeline.model.names import BANK
from pipeline.support import garbage_collection, logs
from pipeline.support.settings import Settings, load

TRY = """
The bank is open. Its page: {balances}/ui. In another terminal:

  curl {accounts}/create -H 'Content-Type: application/json' -d '{{"owner":"Paulo","money":500}}'
  curl {accounts}/<ID>        the account, from its events
  curl {balances}/            all balances, from the projection
  bank status                 what runs, and whether it is well
  bank verify                 do the invariants hold?

Ctrl-C ends it. What was stored stays in {folder}.
"""

TRY_ANOTHER = """
{application} runs. {page}In another terminal:
{commands}{documents}
  bank status                 what runs, and whether it is well
  bank verify                 do the invariants hold?

Ctrl-C ends it. What was stored stays in {folder}.
"""

TRY_COMMAND = """
  curl {accounts}/aggregates/{aggregate} -H 'Content-Type: application/json' -d '{body}'
  curl {accounts}/aggregates/{aggregate}/<ID>        the {aggregate}, from its events\
"""

TRY_DOCUMENTS = """
  curl {balances}/projections/{first}   the documents of its first projection\
"""

_SAMPLES: Final[Mapping[type, object]] = {str: "…", int: 1, bool: True}


@click.command()
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(sorted(SERVER_BINARIES)),
    help="Use the server that listens at this one's URL already. Can be given more than once.",
)
def up(without: tuple[str, ...]) -> None:
    """Run servers, forwarder, worker and both services in this terminal.

    \b
    Examples:
      bank up                          until Ctrl-C; the data stays in .bank/
      bank up --without mongodb        on the MongoDB that runs already
      BANK_ACCOUNTS_PORT=8001 bank up  with a setting of your own
    """
    settings = load()
    lines = LogLines(ending_with_reader(sys.stderr), prefix=settings.log_format == "text")
    logs.setup(settings, "up", RoleStream("up", lines))
    try:
        run(_up(settings, lines, without))
    except EmbeddedError as error:
        name, _, rest = str(error).partition(": ")
        if name in SERVER_BINARIES and " is taken" in rest:
            error.add_note(f"Or use the one that listens there: bank up --without {name}")
        raise


async def _up(settings: Settings, lines: LogLines, without: tuple[str, ...]) -> None:
    async with running(settings, lines, without=without):
        click.echo(_what_to_try(settings))
        await asyncio.Event().wait()


def _what_to_try(settings: Settings) -> str:
    accounts = accounts_url(settings).replace("http://127.0.0.1", "localhost")
    balances = balances_url(settings).replace("http://127.0.0.1", "localhost")
    folder = settings.data_dir.absolute()
    if settings.names == BANK:
        return TRY.format(accounts=accounts, balances=balances, folder=folder)
    documents = [
        TRY_DOCUMENTS.format(balances=balances, first=each.name) for each in settings.kept[:1]
    ]
    return TRY_ANOTHER.format(
        application=settings.names.application,
        page=f"Its page: {balances}/ui. " if settings.kept else "",
        commands=_command_to_try(settings.chosen, accounts),
        documents="".join(documents),
        folder=folder,
    )


def _command_to_try(application: Application, accounts: str) -> str:
    """How to send the first command that the application takes by HTTP; empty if it takes none, or
    one that `_sample` has no values for."""
    for aggregate in application.aggregates:
        for name, command in aggregate.commands.items():
            if (values := _sample(command)) is None:
                return ""
            body = json.dumps({"command": name, **values}, ensure_ascii=False)
            return TRY_COMMAND.format(accounts=accounts, aggregate=aggregate.name, body=body)
    return ""


def _sample(command: type[Any]) -> dict[str, object] | None:
    """A value for each field that must be given; None if one has another type than these."""
    hints = get_type_hints(command, include_extras=True)
    required = [
        each.name
        for each in fields(command)
        if each.init and each.default is MISSING and each.default_factory is MISSING
    ]
    # What is Annotated has constraints, and may have no hash.
    if not all(isinstance(hints[each], type) and hints[each] in _SAMPLES for each in required):
        return None
    return {each: _SAMPLES[hints[each]] for each in required}


@click.command()
@click.option("--accounts", default=1_000, show_default=True, type=click.IntRange(2))
@click.option("--commands", default=20_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True, help="Decides which commands are sent.")
def demo(accounts: int, commands: int, seed: int) -> None:
    """Run a scratch bank under load, then check every invariant.

    It shows how far it is: as bars in a terminal, else as a line every few seconds. Exits with 0
    only if each command was answered as it must be, all was projected and every invariant holds.

    \b
    Examples:
      bank demo                               a thousand accounts, twenty thousand commands
      bank demo --accounts 50 --commands 500  a small one
      bank demo --seed 7                      other commands
    """
    garbage_collection.run_seldom()
    settings, steps = load(), Steps(console(err=True))
    if settings.names != BANK:
        raise CommandFailed("BANK_APPLICATION: the demo is the bank's alone", 2)
    with steps.displayed():
        result = run(
            run_demo(settings, accounts=accounts, commands=commands, seed=seed, progress=steps.note)
        )
    if result is None:
        raise CommandFailed("interrupted", INTERRUPTED)
    show_result(result)
    raise SystemExit(0 if result.holds else 1)


def show_result(result: Result) -> None:
    """Print what a demo did and whether it holds."""
    table = Table("", "number", "a second", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    rates = {
        "commands": (result.commands, result.sending_seconds),
        "  acknowledged": (result.acknowledged, result.sending_seconds),
        "  rejected, as they must be": (result.rejected, result.sending_seconds),
        "  without an answer": (result.unanswered, 0.0),
        "events": (result.events, 0.0),
        "forwarded": (result.forwarded, 0.0),
        "projected": (result.projected, result.projecting_seconds),
        "lag": (result.lag, 0.0),
    }
    for name, (number, seconds) in rates.items():
        table.add_row(name, f"{number:,}", f"{number / seconds:,.0f}" if seconds else "")
    out = console()
    out.print(table)
    out.print()
    if result.report is not None:
        show(result.report)
    for surprise in result.surprises[:10]:
        out.print(f"  not expected: {surprise}", markup=False, highlight=False)
    if result.holds:
        out.print("\n[green]All of it holds.[/]")
    else:
        out.print(f"\n[red]It does not hold.[/] The logs are in {escape(str(result.folder))}")
