"""`bank parked`: lists, shows, retries and drops accounts with an event that can't be applied."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import click
import orjson

from pipeline.cli.connections import jetstream, until_answered
from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import as_json, console, echo, plain_table
from pipeline.cli.projection_option import Target, of_projection, target
from pipeline.cli.running import complete
from pipeline.eventstore import EventStore
from pipeline.messaging.answers import ELECTION, FAILURES, repeatable
from pipeline.model.projection import Projection
from pipeline.model.visible import visible
from pipeline.operations.audit import Action, record
from pipeline.support.cancellation import raise_if_cancelled
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccount, ParkedAccountList

_EVERY: Final = 0.2
NONE: Final = "no account is parked"
_SHOWN: Final = orjson.OPT_INDENT_2 | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z

_MEANING: Final = """\
Dropping takes an account off the list and repairs nothing: its document stays at the version before
the event that can't be applied. Its next event parks it again as long as the cause is there.
"""


@click.group(invoke_without_command=True)
@of_projection
@as_json
@click.pass_context
def parked(ctx: click.Context, as_json: bool) -> None:
    """Accounts with an event that can't be applied.

    The document of a parked account stays at the version before that event. Its later events wait
    in the event store; other accounts go on. Without a subcommand, lists the parked accounts.

    \b
    Examples:
      bank parked                     list parked accounts, with the reason
      bank parked show ID             show one, with the event itself
      bank parked retry --all         the cause is gone: apply the waiting events
    """
    if ctx.invoked_subcommand is None:
        _list(complete(_listed(target("parked"))), as_json)


@parked.command()
@click.argument("account_id", metavar="ID")
@as_json
def show(account_id: str, as_json: bool) -> None:
    """Show a parked account: how many events wait, and the event that can't be applied.

    \b
    Examples:
      bank parked show ID             as text
      bank parked show --json ID      as JSON
    """
    account, head, event = complete(_one(target("parked"), account_id))
    waiting = max(head - account.version + 1, 0)
    if as_json:
        echo(_json({**asdict(account), "waiting": waiting, "event": event}))
        return
    shown = {**asdict(account), "retry": "asked" if account.retry else "no", "waiting": waiting}
    for name, value in shown.items():
        echo(f"{name:<12}{visible(str(value))}")
    echo(
        f"\nThe event as it is stored:\n{_json(event)}"
        if event is not None
        else f"\nThe event store has no version {account.version} of it."
    )


@parked.command()
@click.argument("account_ids", metavar="ID...", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="All parked accounts.")
@click.option(
    "--wait",
    "seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds to wait for the result; 0 does not wait.",
)
def retry(account_ids: tuple[str, ...], everyone: bool, seconds: float) -> None:
    """Ask for another try: apply the waiting events of accounts, in order.

    The worker that owns the account's partition does it. Exits with 1 unless every account was
    applied in time; a request that is not answered yet stays.

    \b
    Examples:
      bank parked retry ID              one account
      bank parked retry --all           all parked accounts
      bank parked retry --wait 0 --all  ask and do not wait
    """
    if bool(account_ids) == everyone:
        raise click.UsageError("name accounts, or give --all")
    unknown = "interrupted: what was asked stays asked; `bank parked` lists who is parked still"
    failed = complete(_retry(target("parked"), account_ids, seconds), message=unknown)
    if failed:
        raise SystemExit(1)


@parked.command()
@click.argument("account_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def drop(account_ids: tuple[str, ...], yes: bool) -> None:
    """Take accounts off the list without repairing them.

    The document stays at the version before the event that can't be applied. The next event of
    the account parks it again as long as the cause is there.

    \b
    Examples:
      bank parked drop ID             asks first
      bank parked drop --yes ID       without confirmation
    """
    where = target("parked")
    accounts = complete(_listed(where, account_ids))
    if not yes:
        echo(_MEANING)
        click.confirm(f"Drop {', '.join(each.account_id for each in accounts)}?", abort=True)
    unknown = "interrupted: `bank parked` lists who is parked still"
    complete(_drop(where, accounts), message=unknown)


async def _listed(target: Target, account_ids: Sequence[str] = ()) -> list[ParkedAccount]:
    """These accounts, by default all; `CommandFailed` if one of them is not parked."""
    async with _opened(*target) as parked:
        return _chosen(parked, account_ids) if account_ids else parked.all()


async def _one(
    target: Target, account_id: str
) -> tuple[ParkedAccount, int, Mapping[str, Any] | None]:
    """The account, its newest version, and the event that can't be applied, if it is stored."""
    async with _opened(*target) as parked:
        [account] = _chosen(parked, [account_id])
    settings, _ = target
    store = EventStore(settings.mongodb, settings.mongodb_database)
    try:
        head = await store.head(account_id)
        stored = await store.page(account_id, after=account.version - 1, limit=1)
    finally:
        await store.close()
    event = stored[0] if stored and stored[0]["version"] == account.version else None
    return account, head, event


async def _retry(target: Target, account_ids: Sequence[str], seconds: float) -> int:
    """Ask for a retry of all, print each result, and return how many are not applied."""
    async with _opened(*target) as parked:
        accounts = _chosen(parked, account_ids) if account_ids else parked.all()
        if not accounts:
            echo(NONE)
        for each in accounts:
            await until_answered(partial(parked.ask_retry, each.account_id))
            await _record(parked, target, "parked-retry", each.account_id, "asked")
        ids = [each.account_id for each in accounts]
        if not seconds:
            for account_id in ids:
                echo(f"{account_id}: asked")
            return 0
        failed = 0
        async for account_id, fault in _outcomes(parked, ids, seconds):
            echo(f"{account_id}: {fault or 'applied'}")
            failed += fault is not None
        return failed


async def _drop(target: Target, accounts: Iterable[ParkedAccount]) -> None:
    async with _opened(*target) as parked:
        for each in accounts:
            unknown = f"Whether {each.account_id} is dropped is not known yet"
            drop = repeatable(partial(parked.drop, each.account_id))
            if await until_answered(drop, unknown):
                await _record(parked, target, "parked-drop", each.account_id, "done")
                echo(f"{each.account_id}: dropped; its document stays as it is")
            else:
                echo(f"{each.account_id}: was no longer parked")


async def _record(
    parked: ParkedAccountList, target: Target, action: Action, account_id: str, outcome: str
) -> None:
    settings, projection = target
    await record(parked.js, settings, action, f"{projection.name} {account_id}", outcome)


def _list(accounts: list[ParkedAccount], as_json: bool) -> None:
    if as_json:
        echo(json.dumps([asdict(each) for each in accounts], indent=1))
    elif not accounts:
        echo(NONE)
    else:
        table = plain_table("account", "version", "kind", "waiting since", "attempts", "reason")
        for each in accounts:
            attempts = f"{each.attempts}, asked again" if each.retry else str(each.attempts)
            cells = (each.account_id, str(each.version), each.kind, each.since, attempts)
            table.add_row(*cells, each.reason)
        console().print(table)


def _json(value: Any) -> str:
    """As JSON. An event may hold values that JSON does not know: they become text."""
    return orjson.dumps(value, option=_SHOWN, default=str).decode()


@asynccontextmanager
async def _opened(settings: Settings, projection: Projection) -> AsyncIterator[ParkedAccountList]:
    """The list as it is now; `CommandFailed` when NATS does not answer."""
    async with jetstream(settings) as js:
        parked = ParkedAccountList(js, projection)
        await until_answered(parked.refresh, seconds=ELECTION)
        yield parked


def _chosen(parked: ParkedAccountList, account_ids: Collection[str]) -> list[ParkedAccount]:
    """The accounts of these ids, each once; `CommandFailed` if one of them is not parked."""
    for account_id in account_ids:
        if account_id not in parked:
            raise CommandFailed(
                f"account {account_id} is not parked; `bank parked` lists those that are"
            )
    return [parked[account_id] for account_id in dict.fromkeys(account_ids)]


async def _outcomes(
    parked: ParkedAccountList, account_ids: Iterable[str], seconds: float
) -> AsyncIterator[tuple[str, str | None]]:
    """Each account with its fault as soon as that is known; None if its events were applied.

    A retry of each has just been asked for. An account that is off the list was applied.
    """
    # The number of attempts before: one more means that the retry was made and failed.
    attempts = {each: parked[each].attempts if each in parked else 0 for each in account_ids}
    deadline = time.monotonic() + seconds
    silent = "no worker answered"
    while attempts and time.monotonic() < deadline:
        silent = await _refreshed(parked)
        raise_if_cancelled()
        for account_id, before in list(attempts.items()):
            if account_id in parked and parked[account_id].attempts <= before:
                continue
            del attempts[account_id]
            again = account_id in parked
            yield account_id, f"parked again: {parked[account_id].reason}" if again else None
        if attempts:
            await asyncio.sleep(_EVERY)
    for account_id in attempts:
        yield account_id, f"{silent} within {seconds:g} s; it stays asked"


async def _refreshed(parked: ParkedAccountList) -> str:
    """Who has not answered by now."""
    try:
        await parked.refresh()
    except FAILURES:
        return "NATS did not answer"
    return "no worker answered"
