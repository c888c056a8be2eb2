"""`bank repartition`: changes the number of partitions under load."""

import asyncio
import time
from contextlib import suppress
from typing import Final

import click

from pipeline.cli.connections import jetstream
from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import echo
from pipeline.cli.running import complete, configured
from pipeline.coordination.partitioning import MOST, partitioning
from pipeline.coordination.repartition_requests import (
    RepartitionRequest,
    RepartitionRequests,
    UnderWay,
)
from pipeline.messaging.kv import Overtaken
from pipeline.operations.audit import record
from pipeline.support.settings import Settings

_POLL_SECONDS: Final = 0.1
_GRACE_SECONDS: Final = 10.0
_PROGRESS: Final = {
    "wanted": "Asked the leading forwarder for {to} partitions.",
    "draining": "It stands still, and the workers finish what is there.",
}


@click.command()
@click.argument("number", metavar="[N]", required=False, type=click.IntRange(1, MOST))
@click.option(
    "--patience",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, 3600),
    help="Seconds in which the workers must finish, or nothing is changed.",
)
def repartition(number: int | None, patience: float) -> None:
    """Change the number of partitions under load; without N, show it.

    Commands and reads go on meanwhile. The forwarder pauses until the workers have applied all that
    it has forwarded: some tenths of a second if they keep up. No event is lost, and each account's
    events stay in order. Exits with 1 if nothing was changed.

    \b
    Examples:
      bank repartition                   show the number
      bank repartition 16                change it to 16
      bank repartition 16 --patience 60  for workers that are behind
    """
    settings = configured("repartition")
    echo(complete(ask(settings, number, patience)))


async def ask(settings: Settings, number: int | None, patience: float) -> str:
    """The number in force, or the outcome of the request; `CommandFailed` if it was not granted."""
    async with jetstream(settings) as js:
        requests = RepartitionRequests(js)
        now, last = await partitioning(js), await requests.last()
        if now is None:
            raise CommandFailed(
                "there are no partitions yet: the first forwarder or worker makes them"
            )
        if number is None:
            return f"{now.count} partitions"
        if last is not None and last.open:
            raise CommandFailed(f"{UnderWay(last)}")
        if number == now.count:
            return f"there are {number} partitions already"
        waiting = 2 * patience + _GRACE_SECONDS + 2 * settings.lease_seconds
        try:
            request = await requests.ask(number, patience)
            await record(js, settings, "repartition", f"{now.count} -> {number}", "asked")
            request = await follow(requests, request, time.monotonic() + waiting)
            await record(js, settings, "repartition", f"{now.count} -> {number}", request.state)
            return _outcome(request)
        except (UnderWay, Overtaken) as error:
            raise CommandFailed(str(error)) from error


async def follow(
    requests: RepartitionRequests, request: RepartitionRequest, deadline: float
) -> RepartitionRequest:
    """Print the progress until the request is answered.

    It is withdrawn at the deadline or an interrupt, unless a forwarder has begun it.
    """
    printed = ""
    try:
        while request.open:
            if request.state != printed:
                printed = request.state
                echo(_PROGRESS[printed].format(to=request.to), err=True)
            # Only while nobody has begun it: a forwarder that drains may change the number.
            if request.state == "wanted" and time.monotonic() > deadline:
                await _withdraw(requests, request)
            await asyncio.sleep(_POLL_SECONDS)
            request = await requests.again(request)
    except asyncio.CancelledError:
        await _withdraw(requests, request)
        raise
    return request


async def _withdraw(requests: RepartitionRequests, request: RepartitionRequest) -> None:
    with suppress(Overtaken):
        if request.state == "wanted":
            await requests.change(request, state="withdrawn")


def _outcome(request: RepartitionRequest) -> str:
    """The outcome in words; `CommandFailed` if nothing was changed."""
    if request.state == "withdrawn":
        raise CommandFailed("no forwarder leads, so the request is withdrawn; nothing was changed")
    if request.state == "refused":
        raise CommandFailed(f"{request.reason}; nothing was changed")
    stood = (
        f"the forwarder stood still for {request.seconds:.2f} s"
        if request.seconds is not None
        else "a forwarder was replaced meanwhile, so nobody knows how long nothing was forwarded"
    )
    return f"{request.before} -> {request.to} partitions; {stood}"
