"""`bank trace`: the path of a command's events, by the correlation id of its request."""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import click

from pipeline.cli.connections import no_answer, status_readers
from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import as_json, echo
from pipeline.cli.running import complete, configured
from pipeline.cli.spans import span
from pipeline.cli.trace_formatting import show
from pipeline.operations.trace.path import EventPath, trace_path
from pipeline.operations.trace.report import as_json as report
from pipeline.operations.trace.report import rfc3339
from pipeline.operations.trace.search import FoundEvents, search
from pipeline.support.settings import Settings

MOST: Final = 100
"""Events whose paths are traced."""


def _since(_: click.Context, __: click.Parameter, given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        if (ago := span(given, "smhd")) is not None:
            return datetime.now(UTC) - ago
        moment = datetime.fromisoformat(given)
    except (ValueError, OverflowError):
        raise click.BadParameter("such as 30m, 12h, 7d or 2026-11-27T14:05:00Z") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > datetime.now(UTC):
        raise click.BadParameter("that time is yet to come")
    return moment


@click.command()
@click.argument("correlation_id", metavar="CORRELATION_ID")
@click.option("--account", metavar="ID", help="An account of the command.")
@click.option(
    "--since",
    metavar="TIME",
    callback=_since,
    help="Search the events from then on: a time, or how long ago, such as 12h.",
)
@click.option(
    "--patience",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds that the search may take.",
)
@as_json
def trace(
    correlation_id: str,
    account: str | None,
    since: datetime | None,
    patience: float,
    as_json: bool,
) -> None:
    """Trace a command by the correlation id of its request.

    That is the X-Correlation-ID of the answer, and the id in every log line.

    For each event of the command it shows: when it was stored, when and where it was written to the
    stream, the position of each projection, the version that readers see, and whether the account
    is parked. What is not known is shown as unknown, with the reason. It only reads.

    The event store has no index of these ids. An id that the service made contains its time, and
    the events of that time are searched. For an id that the client gave, name an account with
    --account, which is fast however many events there are, or the time with --since; without both,
    the last hour is searched. A command that was refused stored no event, so there is nothing to
    find. Exits with 1 when nothing is found or a server does not answer.

    \b
    Examples:
      bank trace 01KB2RWNZ5T8J6W7CWS1B6V3QN     an id made by the service
      bank trace order-66 --account ID          an id given by the client
      bank trace order-66 --since 12h           search a span of time
      bank trace --json order-66                as JSON
    """
    settings = configured("trace")
    found, paths = complete(_trace(settings, correlation_id, account, since, patience))
    if as_json:
        echo(json.dumps(report(correlation_id, found, paths), indent=1))
    else:
        show(correlation_id, found, paths)
    if len(found.events) > MOST:
        echo(f"{len(found.events):,} events have that id; the first {MOST} are shown", err=True)
    _require_complete(correlation_id, found, paths, settings)


def _require_complete(
    correlation_id: str, found: FoundEvents, paths: Sequence[EventPath], settings: Settings
) -> None:
    """`CommandFailed` unless events were found, all was searched and every server answered."""
    if not found.complete:
        raise CommandFailed(
            f"not all of {_where(found)} was searched in time: give it more --patience"
        )
    if not paths:
        raise CommandFailed(
            f"no event of {correlation_id} {_where(found)}; a command that was refused left none, "
            "--since and --account search elsewhere"
        )
    if failed := {name: why for each in paths for name, why in each.failed.items()}:
        raise no_answer(settings, failed)


def _where(found: FoundEvents) -> str:
    if found.searched is None:
        return "in that account"
    since, until = map(rfc3339, found.searched)
    return f"from {since} to {until}"


async def _trace(
    settings: Settings,
    correlation_id: str,
    account: str | None,
    since: datetime | None,
    patience: float,
) -> tuple[FoundEvents, list[EventPath]]:
    async with status_readers(settings, settings.kept) as (store, readers):
        found = await search(
            store,
            correlation_id,
            account_id=account,
            since=since,
            patience=patience,
            on_span=_progress,
        )
        paths = await asyncio.gather(*(trace_path(each, readers) for each in found.events[:MOST]))
        return found, paths


def _progress(since: datetime, until: datetime) -> None:
    if sys.stderr.isatty():
        echo(f"searching events from {rfc3339(since)} to {rfc3339(until)} …", err=True)
