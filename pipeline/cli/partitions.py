"""`bank partitions`: the owner, position and lag of each partition."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Final

import click
from rich.live import Live
from rich.table import Table

from pipeline.cli.connections import no_answer, status_readers
from pipeline.cli.formatting import as_json, console, plain_table
from pipeline.cli.projection_option import of_projection, target
from pipeline.cli.running import complete, run
from pipeline.model.projection import Projection
from pipeline.operations.status.partitions import Partitions, PartitionStatus, Reading
from pipeline.support.settings import Settings

Show = Callable[[Reading], None]

_EVERY: Final = 1.0
_NOBODY: Final = "nobody"


@click.command()
@as_json
@of_projection
@click.option("--watch", is_flag=True, help="Repeat it every second, until Ctrl-C.")
def partitions(as_json: bool, watch: bool) -> None:
    """Show the owner, position and lag of each partition.

    The lag is of the events that are in the event store and not in the live index: their number,
    and the seconds since the oldest was stored. A lag that is not known is shown as unknown, with
    the reason. Exits with 1 when a server does not answer.

    \b
    Examples:
      bank partitions                         once
      bank partitions --watch                 every second, until Ctrl-C
      bank partitions --projection statement  those of another projection
    """
    settings, projection = target("partitions")
    if watch:
        run(_watch(settings, projection, as_json), exit_code=0)
        return
    reading = complete(_read(settings, projection))
    _print(reading, as_json)
    if reading.failed:
        raise no_answer(settings, reading.failed)


async def _read(settings: Settings, projection: Projection) -> Reading:
    async with _opened(settings, projection) as reader:
        return await reader.read()


async def _watch(settings: Settings, projection: Projection, as_json: bool) -> None:
    out = console()
    async with _opened(settings, projection) as reader:
        if as_json or not out.is_terminal:
            await _repeat(reader, lambda reading: _print(reading, as_json))
        with Live(console=out, auto_refresh=False) as live:
            await _repeat(reader, lambda reading: live.update(_table(reading), refresh=True))


async def _repeat(reader: Partitions, show: Show) -> None:
    while True:
        show(await reader.read())
        await asyncio.sleep(_EVERY)


@asynccontextmanager
async def _opened(settings: Settings, projection: Projection) -> AsyncIterator[Partitions]:
    """The partitions on the servers of the settings, connected as far as they answer."""
    async with status_readers(settings, [projection]) as (_, [reader]):
        yield Partitions(reader, settings.partitions)


def _print(reading: Reading, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(each) for each in reading.partitions]))
    else:
        console().print(_table(reading))


def _table(reading: Reading) -> Table:
    table = plain_table("partition", "owner", "epoch", "position", "behind", "seconds", "parked")
    for status in reading.partitions:
        table.add_row(
            str(status.partition),
            _owner(status),
            _number(status.epoch),
            _number(status.position),
            _behind(status),
            "unknown" if status.lag_seconds is None else f"{status.lag_seconds:,.1f}",
            _number(status.parked),
        )
    return table


def _owner(status: PartitionStatus) -> str:
    if status.owner_unknown is not None:
        return f"unknown ({status.owner_unknown})"
    return status.owner or _NOBODY


def _behind(status: PartitionStatus) -> str:
    if status.lag_events is None:
        return f"unknown ({status.unknown})"
    return f"{status.lag_events:,}"


def _number(figure: int | None) -> str:
    return "-" if figure is None else str(figure)
