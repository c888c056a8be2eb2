"""`bank replicas`: on how many servers of NATS each stream and bucket is, and changing that."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Final, TypeVar

import click

from pipeline.cli.connections import jetstream, until_answered
from pipeline.cli.failures import INTERRUPTED, CommandFailed
from pipeline.cli.formatting import as_json, console, echo, plain_table
from pipeline.cli.progress import Steps
from pipeline.cli.running import complete, configured
from pipeline.messaging import JetStream, TooManyReplicas
from pipeline.messaging.answers import ANSWERS, ELECTION, FAILURES
from pipeline.messaging.replicas import Replicas, all_replicas, change, replicas_of, streams
from pipeline.operations.audit import record
from pipeline.support.cancellation import raise_if_cancelled
from pipeline.support.settings import PREFIX, Settings

T = TypeVar("T")

MOST: Final = 5
SILENT: Final = "{stream}: no answer; a server that has it may be away. Asking until it answers"

_EVERY: Final = 0.25
_SILENT_SECONDS: Final = 5.0


@click.command()
@click.argument("number", metavar="[N]", required=False, type=click.IntRange(1, MOST))
@as_json
def replicas(number: int | None, as_json: bool) -> None:
    """Show on how many servers of NATS each stream and bucket is; with N, change it.

    The bank goes on meanwhile. The command ends when as many servers have all there is; Ctrl-C
    leaves them copying, and the same command goes on where it was. BANK_STREAM_REPLICAS is for what
    is made later. Exits with 1 if anything has fewer replicas than wanted, or not all of them have
    all there is.

    \b
    Examples:
      bank replicas                   show them
      bank replicas 3                 have three of everything
      bank replicas --json            as JSON
    """
    settings = configured("replicas")
    if number is not None:
        changed = complete(_change(settings, number))
        echo(f"{changed} streams and buckets have {_replicas(number)} each")
        _warn_of_setting(settings, number)
        return
    found = complete(_found(settings))
    _show(found, as_json)
    if not all(each.current >= max(each.count or 0, settings.stream_replicas) for each in found):
        raise CommandFailed(
            f"not all have as many as {PREFIX}STREAM_REPLICAS asks for, {settings.stream_replicas}"
        )


async def _found(settings: Settings) -> list[Replicas]:
    async with jetstream(settings) as js:
        return _some(await until_answered(partial(all_replicas, js), seconds=ELECTION))


async def _change(settings: Settings, number: int) -> int:
    """How many streams and buckets have so many replicas now: all."""
    async with jetstream(settings) as js:
        _some(await until_answered(partial(streams, js), seconds=ELECTION))
        await record(js, settings, "replicas", f"{number}", "asked")
        names = await until_answered(partial(streams, js))  # the audit log may be new
        bars, done = Steps(console(err=True)), list[str]()
        with bars.displayed():
            try:
                for name in names:
                    await _change_one(js, name, number, bars)
                    done.append(name)
            except TooManyReplicas as error:
                raise CommandFailed(
                    f"{name}: {error}\n{_so_far(done, names, number)}, the others are as they were."
                    f"\n{number} servers with JetStream must be up in one cluster, and have room."
                ) from error
            except asyncio.CancelledError:
                raise CommandFailed(
                    f"interrupted: {_so_far(done, names, number)}; NATS goes on with the one it is "
                    f"at.\n`bank replicas` shows them, `bank replicas {number}` goes on.",
                    INTERRUPTED,
                ) from None
        now = await until_answered(partial(all_replicas, js))
        if others := [each.stream for each in now if each.count not in (number, None)]:
            raise CommandFailed(
                f"{', '.join(others)}: made or changed by others meanwhile; `bank replicas "
                f"{number}` again changes what is left"
            )
        await record(js, settings, "replicas", f"{number}")
        return len(names)


async def _change_one(js: JetStream, stream: str, number: int, bars: Steps) -> None:
    """Ask for so many until that is confirmed, and wait until they have all there is.

    Servers may go away meanwhile, also the one that led the stream when it was asked.
    """
    clock = asyncio.get_running_loop().time
    answered, told = clock(), False
    while not (found := await replicas_of(js, stream)).are(number):
        raise_if_cancelled()
        if found.count is not None:
            answered, told = clock(), False
            bars.note(stream, min(found.current, number - 1), number)
            await _ask(js, found, number)
        elif clock() - answered > _SILENT_SECONDS and not told:
            told = True
            bars.remark(SILENT.format(stream=stream))
        await asyncio.sleep(_EVERY)
    bars.note(stream, number, number)


async def _ask(js: JetStream, found: Replicas, number: int) -> None:
    if found.count == number:
        return
    try:
        await change(js, found.stream, number)
    except ANSWERS:
        raise
    except FAILURES:
        return  # whether it was done shows when it is asked for again


def _some(found: list[T]) -> list[T]:
    """What was found; `CommandFailed` if that is nothing."""
    if not found:
        raise CommandFailed("there are no streams yet: the first forwarder or worker makes them")
    return found


def _so_far(done: Sequence[str], names: Sequence[str], number: int) -> str:
    return f"{len(done)} of {len(names)} streams and buckets have {_replicas(number)}"


def _replicas(number: int) -> str:
    return "1 replica" if number == 1 else f"{number} replicas"


def _warn_of_setting(settings: Settings, number: int) -> None:
    if settings.stream_replicas != number:
        echo(
            f"{PREFIX}STREAM_REPLICAS is {settings.stream_replicas} here: set it to {number} for "
            "every role, or what is made later has another number",
            err=True,
        )


def _show(found: Sequence[Replicas], as_json: bool) -> None:
    if as_json:
        echo(json.dumps([asdict(each) for each in found], indent=1))
        return
    table = plain_table("stream", "replicas", "up to date", "leader")
    for each in found:
        if each.count is None:
            table.add_row(each.stream, "unknown (no answer)", "", "")
        else:
            row = (str(each.count), str(each.current), each.leader or "-")
            table.add_row(each.stream, *row)
    console().print(table)
