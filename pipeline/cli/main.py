"""The `bank` command: wires the subcommands of `pipeline/cli`."""

from collections import UserDict
from importlib import import_module
from typing import Any

import click

from pipeline.cli import failures


class _Commands(UserDict[str, Any]):
    """Commands by name, told as the modules that they are in.

    A module is imported when its command is asked for: most need few of the four drivers.
    """

    def __getitem__(self, name: str) -> click.Command:
        module = import_module(f"pipeline.cli.{self.data[name]}")
        command: click.Command = getattr(module, name)
        return command


COMMANDS = _Commands(
    up="together",
    demo="together",
    verify="shown",
    status="shown",
    partitions="partitions",
    trace="trace",
    parked="parked",
    rebuild="rebuild",
    repartition="repartition",
    keys="keys",
    settings="shown",
    servers="roles",
    accounts="roles",
    balances="roles",
    forwarder="roles",
    worker="roles",
)


class _InOrder(failures.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="bank-transfer")
def main() -> None:
    """An event-sourced bank, from a command to a balance that people read.

    \b
    Examples:
      bank up                         all of it in this terminal, Ctrl-C ends it
      bank demo                       a scratch bank under load, and then the checker
      bank verify                     do the invariants hold on the stores right now?
      BANK_PARTITIONS=16 bank up      every setting is a variable: bank settings
      bank forwarder                  one role alone, as many processes as you like
    """


if __name__ == "__main__":
    main()
