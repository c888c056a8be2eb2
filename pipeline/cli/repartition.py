"""`bank repartition`: changes the number of partitions under load."""

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import Final

import click
from ulid import ULID

from pipeline.cli.connections import jetstream, until_answered
from pipeline.cli.failures import INTERRUPTED, CommandFailed
from pipeline.cli.formatting import echo
from pipeline.cli.running import complete, configured
from pipeline.coordination.partitioning import MOST, partitioning
from pipeline.coordination.repartition_requests import (
    RepartitionRequest,
    RepartitionRequests,
    UnderWay,
)
from pipeline.messaging import JetStream
from pipeline.messaging.answers import ELECTION, FAILURES
from pipeline.messaging.kv import Overtaken
from pipeline.operations.audit import record
from pipeline.support.cancellation import raise_if_cancelled
from pipeline.support.settings import Settings

_POLL_SECONDS: Final = 0.1
_GRACE_SECONDS: Final = 10.0
_WITHDRAW_SECONDS: Final = 2.0
_UNKNOWN: Final = "{} partitions were asked for, which is not confirmed yet"
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
    events stay in order. While NATS does not answer, the command waits. Exits with 1 if nothing
    was changed, with 130 if it was interrupted before that was known.

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
        now = await until_answered(partial(partitioning, js), seconds=ELECTION)
        last = await until_answered(requests.last, seconds=ELECTION)
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
            request = await _asked(requests, number, patience)
            try:
                await record(js, settings, "repartition", f"{now.count} -> {number}", "asked")
                request = await follow(requests, request, time.monotonic() + waiting)
            except asyncio.CancelledError:
                raise await _withdraw(requests, request) from None
        except UnderWay as error:
            raise CommandFailed(str(error)) from error
        except Overtaken as error:
            return await _in_force(js, number, error)
        await record(js, settings, "repartition", f"{now.count} -> {number}", request.state)
        return _outcome(request)


async def _asked(requests: RepartitionRequests, number: int, patience: float) -> RepartitionRequest:
    """The request as it was written, also if the answer to that was lost."""
    request_id = str(ULID())
    try:
        return await until_answered(
            lambda: requests.ask(number, patience, request_id), _UNKNOWN.format(number)
        )
    except asyncio.CancelledError:
        raise _interrupted(number) from None


async def follow(
    requests: RepartitionRequests, request: RepartitionRequest, deadline: float
) -> RepartitionRequest:
    """Print the progress until the request is answered. NATS may be down meanwhile.

    It is withdrawn at the deadline, unless a forwarder has begun it.
    """
    printed = ""
    while request.open:
        raise_if_cancelled()
        if request.state != printed:
            printed = request.state
            echo(_PROGRESS[printed].format(to=request.to), err=True)
        await asyncio.sleep(_POLL_SECONDS)
        began = time.monotonic()
        request = await until_answered(
            partial(_again, requests, request, overdue=began > deadline),
            _UNKNOWN.format(request.to),
        )
        deadline += time.monotonic() - began  # a forwarder was not answered either
    return request


async def _again(
    requests: RepartitionRequests, request: RepartitionRequest, *, overdue: bool
) -> RepartitionRequest:
    """The request as it is now; one that is overdue is withdrawn first."""
    # Only while nobody has begun it: a forwarder that drains may change the number.
    if overdue and request.state == "wanted":
        with suppress(Overtaken):
            return await requests.change(request, state="withdrawn")
    return await requests.again(request)


async def _withdraw(requests: RepartitionRequests, request: RepartitionRequest) -> CommandFailed:
    """Withdraw it after an interrupt, unless a forwarder has begun it; what to say."""
    with suppress(Overtaken, *FAILURES):
        async with asyncio.timeout(_WITHDRAW_SECONDS):
            await requests.change(request, state="withdrawn")
            return CommandFailed("interrupted; the request is withdrawn, and nothing was changed")
    return _interrupted(request.to)


def _interrupted(number: int) -> CommandFailed:
    return CommandFailed(
        f"interrupted: {_UNKNOWN.format(number)}; `bank repartition` shows the number",
        INTERRUPTED,
    )


async def _in_force(js: JetStream, number: int, error: Overtaken) -> str:
    """The outcome of a request that is no longer there, by the number in force."""
    now = await until_answered(lambda: partitioning(js), _UNKNOWN.format(number))
    if now is None or now.count != number:
        raise CommandFailed(f"{error}; {now.count if now else 'no'} partitions are in force")
    return f"{now.before} -> {number} partitions; {error}"


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
