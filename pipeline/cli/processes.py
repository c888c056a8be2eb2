"""`bank processes`: how each process manager fares, and another try for its parked instances."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import click

from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import as_json, console, echo, plain_table
from pipeline.cli.running import complete, configured
from pipeline.eventstore import EventStore
from pipeline.model.visible import visible
from pipeline.operations.status.processes import ProcessStatus, process_status
from pipeline.support.settings import Settings


@click.group(invoke_without_command=True)
@as_json
@click.pass_context
def processes(ctx: click.Context, as_json: bool) -> None:
    """Show the application's processes, which react to events with commands.

    `read` is the part of the old events that a new process has reacted to; `behind` counts the
    events, and `seconds` is the age of the oldest, that it has yet to react to; `overdue` counts
    deadlines that have come. Without a subcommand, lists them and their parked instances.

    \b
    Examples:
      bank processes                   all processes of the application
      bank processes retry holds ID    the cause is gone: try a parked instance again
    """
    if ctx.invoked_subcommand is None:
        found = complete(_read(configured("processes")))
        if as_json:
            echo(json.dumps([asdict(each) for each in found], indent=1))
        else:
            _show(found)


@processes.command()
@click.argument("process")
@click.argument("instance_id", metavar="ID")
def retry(process: str, instance_id: str) -> None:
    """Have a parked instance of a PROCESS tried again soon; else that is done in growing pauses.

    \b
    Examples:
      bank processes retry holds ID    and see `bank processes` some seconds later
    """
    if not complete(_retry(configured("processes"), process, instance_id)):
        raise CommandFailed(f"{process} {instance_id} is not parked; `bank processes` lists them")
    echo(f"{instance_id}: asked")


async def _read(settings: Settings) -> list[ProcessStatus]:
    async with _opened(settings) as store:
        reading = (process_status(store, each) for each in settings.chosen.processes)
        return await asyncio.gather(*reading)


async def _retry(settings: Settings, process: str, instance_id: str) -> bool:
    async with _opened(settings) as store:
        return await store.processes.retry(process, instance_id)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[EventStore]:
    store = EventStore(settings.mongodb, settings.mongodb_database)
    try:
        yield store
    finally:
        await store.close()


def _show(found: list[ProcessStatus]) -> None:
    if not found:
        echo("the application has no process")
        return
    table = plain_table("process", "worker", "read", "behind", "seconds", "overdue", "parked")
    for each in found:
        known = each.lag_events is not None and each.lag_seconds is not None
        table.add_row(
            each.process,
            each.owner or "nobody",
            f"{each.read:.0%}",
            f"{each.lag_events:,}" if known else "unknown",
            f"{each.lag_seconds:,.1f}" if known else "unknown",
            str(each.overdue),
            str(len(each.parked)),
        )
    console().print(table)
    parked = [(each.process, one) for each in found for one in each.parked]
    if parked:
        table = plain_table("process", "id", "version", "waiting since", "attempts", "reason")
        for process, one in parked:
            cells = (process, visible(one.id), str(one.version), one.since, str(one.attempts))
            table.add_row(*cells, visible(one.reason))
        console().print(table)
