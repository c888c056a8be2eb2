"""One role as this process: `servers`, `accounts`, `balances`, `forwarder`, `worker`."""

import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pipeline.cli.running import configured, run, run_role
from pipeline.model.names import BANK
from pipeline.support import garbage_collection, logs, tracing
from pipeline.support.process_group import Member
from pipeline.support.settings import Settings, load

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _processes(command: _Command) -> _Command:
    return click.option(
        "--processes",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Run so many, to use as many cores; they answer as one.",
    )(command)


@click.command()
def servers() -> None:
    """Run the four servers whose URLs point to this machine.

    \b
    Examples:
      bank servers                       until Ctrl-C; the data stays in .bank/
      BANK_DATA_DIR=/tmp/b bank servers  in another folder
    """
    # Each role imports its own part alone: importing all four drivers takes long.
    from pipeline.embedded.servers import EmbeddedServers

    async def main() -> None:
        embedded = EmbeddedServers(settings)
        await embedded.start()
        try:
            for server in embedded.servers.values():
                click.echo(f"{server.name:<14} {server.url}")
            await embedded.wait_dead()
        finally:
            await embedded.stop()

    settings = _setup("servers")
    run(main())


@click.command()
@_processes
def accounts(processes: int) -> None:
    """Run the account service, which takes commands. Any number may run.

    Of another application than the bank it takes the commands to its aggregates.

    \b
    Examples:
      bank accounts                          on port 8000 of this machine
      BANK_ACCOUNTS_PORT=8001 bank accounts  a second one
      bank accounts --processes 4            four processes behind one port
    """
    if processes > 1:
        _run_group("accounts", processes)
    else:
        become("api.accounts" if load().names == BANK else "api.aggregates")


@click.command()
@_processes
def balances(processes: int) -> None:
    """Run the balance service, which reads the projection. Any number may run.

    \b
    Examples:
      bank balances                          on port 8030 of this machine
      BANK_BALANCES_PORT=8031 bank balances  a second one
      bank balances --processes 4            four processes behind one port
    """
    if processes > 1:
        _run_group("balances", processes)
    else:
        become("api.balances")


@click.command()
def forwarder() -> None:
    """Carry events from MongoDB to JetStream. Any number may run; one leads.

    \b
    Examples:
      bank forwarder                         leads, or stands by
      BANK_METRICS_PORT=9400 bank forwarder  with metrics and probes on that port
    """
    garbage_collection.run_seldom()
    run_role(_forward(_setup("forwarder")))


async def _forward(settings: Settings) -> None:
    from pipeline.forwarder import service
    from pipeline.operations.followed_keys import followed_where_on

    async with followed_where_on(settings) as keys:
        await service.run(settings, keys=keys)


def _name(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    if given is not None and not re.fullmatch(r"[\w.-]{1,64}", given):
        raise click.BadParameter("1 to 64 letters, digits, dots, hyphens or underscores")
    return given


@click.command()
@click.option(
    "--id", "name", callback=_name, help="Name of the owner to show; default: host and process id."
)
@_processes
def worker(name: str | None, processes: int) -> None:
    """Carry events from JetStream into the projection. Any number may run.

    \b
    Examples:
      bank worker                     takes its share of the partitions
      bank worker --id w1             shown by that name in `bank partitions`
      bank worker --processes 4       four of them, started and scraped as one: w1-0, w1-1, …
    """
    if processes > 1:
        _run_group("worker", processes, *(["--id", name] if name else []))
        return
    from pipeline.app import worker as work

    if name and (member := Member.of_this_process()):
        name = f"{name}-{member.number}"

    run_role(work(_setup("worker"), name=name))


def _setup(role: str) -> Settings:
    settings = configured(role)
    tracing.setup(settings, role)
    return settings


def _run_group(role: str, processes: int, *options: str) -> None:
    """Run several processes of the role until a signal."""
    from pipeline.embedded.log_lines import LogLines, RoleStream
    from pipeline.embedded.process_group import ProcessGroup
    from pipeline.support.addresses import check_guarded

    settings = load()
    tracing.require(settings)
    lines = LogLines(prefix=settings.log_format == "text")
    logs.setup(settings, role, RoleStream(role, lines))
    group = ProcessGroup(role, [role, *options], processes, lines)
    if role == "worker":
        at = settings.metrics_port, "The metrics of the worker", "metrics_port"
    else:
        check_guarded(settings)
        at = getattr(settings, f"{role}_port"), f"The {role} service", f"{role}_port"
    run(group.run(settings.host, *at))


def become(module: str, *options: str) -> None:
    """Replace this process by another module, by name: the pipeline must not import the
    services."""
    load()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *options])
