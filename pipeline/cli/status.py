"""`bank settings` and `bank status`: the settings, and the processes that run here."""

import json
from dataclasses import asdict
from typing import Final

import click

from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import as_json, console, plain_table
from pipeline.cli.running import complete
from pipeline.embedded.health import all_health, well
from pipeline.embedded.process_registry import read_processes
from pipeline.support.settings import describe, load

_ELSEWHERE: Final = (
    "It has what `bank up` starts; other roles tell their health at /readyz, and `bank partitions` "
    "shows the workers."
)


@click.command()
@as_json
def settings(as_json: bool) -> None:
    """List every setting with its meaning, default and present value.

    A password, token, key or URL can also be read from a file: BANK_X_FILE names the file with the
    value of BANK_X.

    \b
    Examples:
      bank settings                     as a table; secrets are masked
      BANK_PARTITIONS=16 bank settings  what a role would read
      bank settings --json              as JSON
    """
    described = list(describe(load()))
    if as_json:
        click.echo(json.dumps([each._asdict() for each in described], indent=1))
        return
    table = plain_table("variable", "value", "default", "meaning")
    for name, value, default, meaning in described:
        table.add_row(name, value, default, meaning)
    table.columns[0].no_wrap = True
    console().print(table)


@click.command()
@as_json
def status(as_json: bool) -> None:
    """List the processes of the data folder, with their health.

    Exits with 1 unless there is a process and all of them are well. A warning, such as too few
    replicas of what JetStream keeps, stands behind the `ok`.

    \b
    Examples:
      bank status                     with role, address and health
      bank status --json              as JSON
    """
    settings = load()
    folder = settings.data_dir
    processes = read_processes(folder)
    healths = complete(all_health(processes))
    if as_json:
        shown = [
            {**asdict(process), "health": health}
            for process, health in zip(processes, healths, strict=True)
        ]
        click.echo(json.dumps(shown, indent=1))
    elif processes:
        table = plain_table("role", "pid", "address", "health")
        for process, health in zip(processes, healths, strict=True):
            table.add_row(process.role, str(process.pid), process.address, health)
        console().print(table)
    if not processes:
        raise CommandFailed(
            f"nothing runs in the data folder {folder}. "
            + ("`bank up` starts a bank there." if settings.here else _ELSEWHERE)
        )
    if not all(map(well, healths)):
        raise CommandFailed(
            "not all of it is well; the logs of the servers are in " + str(folder / "logs")
        )
