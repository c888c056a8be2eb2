"""One role as this process: `servers`, `accounts`, `balances`, `forwarder`, `worker`."""

import os
import re
import sys

import click

from pipeline.cli.running import configured, run, run_role
from pipeline.support import garbage_collection, tracing
from pipeline.support.settings import Settings, load


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
def accounts() -> None:
    """Run the account service, which takes commands. Any number may run.

    \b
    Examples:
      bank accounts                          on port 8000 of this machine
      BANK_ACCOUNTS_PORT=8001 bank accounts  a second one
    """
    _become("api.accounts")


@click.command()
def balances() -> None:
    """Run the balance service, which reads the projection. Any number may run.

    \b
    Examples:
      bank balances                          on port 8030 of this machine
      BANK_BALANCES_PORT=8031 bank balances  a second one
    """
    _become("api.balances")


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
def worker(name: str | None) -> None:
    """Carry events from JetStream into the projection. Any number may run.

    \b
    Examples:
      bank worker                     takes its share of the partitions
      bank worker --id w1             shown by that name in `bank partitions`
    """
    from pipeline.app import worker as work

    run_role(work(_setup("worker"), name=name))


def _setup(role: str) -> Settings:
    settings = configured(role)
    tracing.setup(settings, role)
    return settings


def _become(module: str) -> None:
    """Replace this process by another module, by name: the pipeline must not import the
    services."""
    load()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module])
