"""The `bank` command: wires the subcommands of `pipeline/commands`."""

import click

from pipeline.commands import (
    failures,
    keys,
    parked,
    partitions,
    rebuild,
    repartition,
    roles,
    shown,
    together,
)

ORDER = (
    together.up,
    together.demo,
    shown.verify,
    shown.status,
    partitions.partitions,
    parked.parked,
    rebuild.rebuild,
    repartition.repartition,
    keys.keys,
    shown.settings,
    roles.servers,
    roles.accounts,
    roles.balances,
    roles.forwarder,
    roles.worker,
)


class _InOrder(failures.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
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


for command in ORDER:
    main.add_command(command)

if __name__ == "__main__":
    main()
