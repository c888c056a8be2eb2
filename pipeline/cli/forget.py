"""`bank forget`: has an account's personal fields forgotten, and says what was done and what
stays."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from pipeline.cli.connections import jetstream
from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import echo
from pipeline.cli.running import complete, configured
from pipeline.commands import (
    AggregateUnreadable,
    Connection,
    Forgotten,
    StoreRefused,
    StoreUnguarded,
    TooManyConflicts,
    connect,
)
from pipeline.model.aggregate import Aggregate
from pipeline.model.events import is_id
from pipeline.model.projection import Projection
from pipeline.operations.audit import record
from pipeline.search import ProjectionUnavailable
from pipeline.search.scan import IndexScan
from pipeline.support.settings import Settings

_CONNECT_SECONDS: Final = 5.0
_PAUSE: Final = 0.1
_UNKNOWN: Final = "interrupted: it may be half done; give the same command again"
_STAYS: Final = (
    "Copies of the collection `subject_keys`, such as backups, can bring the key back: "
    "let them end, too."
)


@click.command()
@click.argument("account_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "--wait",
    "seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds to wait until the projections show it; 0 does not wait.",
)
def forget(account_id: str, yes: bool, seconds: float) -> None:
    """Forget an account's owner, for good.

    Deletes the key that the personal fields of the account's events are encrypted with, so that no
    copy of the events has them any more. The account stays, and its money moves. May be repeated;
    one that was interrupted goes on. Exits with 1 if a projection does not show it in time.

    \b
    Examples:
      bank forget ID                  asks first
      bank forget --yes ID            without confirmation
    """
    settings = configured("forget")
    if not yes:
        click.confirm(f"Forget the owner of {account_id}? Nobody can undo it", abort=True)
    if not complete(_forget(settings, account_id, seconds), message=_UNKNOWN):
        raise SystemExit(1)


async def _forget(settings: Settings, account_id: str, seconds: float) -> bool:
    """Whether all projections show it, if that is waited for."""
    async with connect(settings.chosen, settings, patience=_CONNECT_SECONDS) as bank:
        aggregate = await _aggregate(bank, account_id)
        try:
            done = await bank.forget(aggregate, account_id)
        except (AggregateUnreadable, StoreRefused, StoreUnguarded) as error:
            raise CommandFailed(f"{account_id} is not forgotten: {error}") from error
        except TooManyConflicts as error:
            why = "others write to it all the time; give the same command again"
            raise CommandFailed(f"{account_id} is not forgotten: {why}") from error
    for line in _told(aggregate, done):
        echo(line)
    await _note(settings, done)
    waited = settings.kept if seconds else ()
    shown = [await _shown(settings, each, done, seconds) for each in waited]
    echo(_STAYS)
    return all(shown)


async def _aggregate(bank: Connection, account_id: str) -> Aggregate[Any, Any]:
    """That whose event the first one is. Raises `CommandFailed`."""
    first = await bank.store.page(account_id, after=0, limit=1) if is_id(account_id) else []
    for each in bank.application.all_aggregates:
        if first and first[0]["kind"] in each.schemas:
            if each.personal:
                return each
            raise CommandFailed(f"{account_id}: {each.name} has no personal fields")
    raise CommandFailed(f"{account_id}: no such account")


def _told(aggregate: Aggregate[Any, Any], done: Forgotten) -> Iterator[str]:
    """What was done, and what stays."""
    if not done.version:
        yield f"{done.id}: no event has personal fields"
        return
    when = "" if done.said else " already"
    yield f"{done.id}: forgotten{when}, by {aggregate.forgotten}, version {done.version}"
    if done.deleted:
        yield f"its key is deleted: {done.encrypted} events can't be read without it"
    elif not done.clear:
        yield "its key was gone before"
    if done.clear:
        yield (
            f"{done.clear} events have them in clear: they were stored before fields were "
            "encrypted, nobody rewrites them, and they stay in the event store and the log"
        )


async def _note(settings: Settings, done: Forgotten) -> None:
    """Write a line of the audit log; what is forgotten is forgotten without NATS, too."""
    try:
        async with jetstream(settings) as js:
            outcome = "done" if done.said or done.deleted else "was done before"
            await record(js, settings, "forget", done.id, outcome)
    except CommandFailed as error:
        echo(f"the audit log has no line of this: {error}", err=True)


async def _shown(
    settings: Settings, projection: Projection, done: Forgotten, seconds: float
) -> bool:
    """Whether the projection shows it in time, or has nothing to show."""
    if projection.every or not done.version:
        return True
    index = IndexScan(settings.elasticsearch, projection.alias)
    deadline = time.monotonic() + seconds
    try:
        while True:
            document = (await index.documents([done.id])).get(done.id)
            if document is None or document["version"] >= done.version:
                break
            if time.monotonic() > deadline:
                echo(
                    f"{projection.name}: does not show it yet, but version {document['version']}; "
                    "if the account is parked (`bank parked`), it will not before that is mended"
                )
                return False
            await asyncio.sleep(_PAUSE)
    except ProjectionUnavailable as error:
        echo(f"{projection.name}: can't be read, so it may not show it yet: {error}")
        return False
    finally:
        await index.close()
    if document is not None:
        echo(f"{projection.name}: shows it")
    return True
