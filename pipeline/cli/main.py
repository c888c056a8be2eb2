"""The `bank` command: finds the module of each subcommand, and turns exceptions into messages."""

import os
import sys
from collections import UserDict
from importlib import import_module
from typing import Any

import click

from pipeline.cli.closed_pipe import ending_with_reader
from pipeline.cli.failures import INTERRUPTED, Failure


class _Commands(UserDict[str, Any]):
    """Commands by name; each value is the module of the command.

    A module is imported when its command is used: importing all four drivers takes long.
    """

    def __getitem__(self, name: str) -> click.Command:
        module = import_module(f"pipeline.cli.{self.data[name]}")
        command: click.Command = getattr(module, name)
        return command


COMMANDS = _Commands(
    up="up",
    demo="up",
    verify="verify",
    status="status",
    partitions="partitions",
    trace="trace",
    tail="feed",
    events="feed",
    parked="parked",
    processes="processes",
    rebuild="rebuild",
    repartition="repartition",
    replicas="replicas",
    keys="keys",
    audit="audit",
    seal="seal",
    forget="forget",
    openapi="documents",
    asyncapi="documents",
    settings="status",
    servers="roles",
    accounts="roles",
    balances="roles",
    forwarder="roles",
    worker="roles",
)


class _Bank(click.Group):
    """Lists its commands in the order above, and shows failures as messages.

    With BANK_LOG_LEVEL=DEBUG it shows the traceback instead.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        ours = sys.__stdout__
        if ours is not None and sys.stdout is ours:  # else it is a caller's
            sys.stdout = ending_with_reader(ours)
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # it came while no coroutine ran: most likely still importing
            raise Failure("interrupted", INTERRUPTED) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            raise _message(error) from None


def _message(error: Exception) -> Failure:
    # Imported only at a failure: it imports every driver for its errors, and commands start ten
    # times faster without it.
    from pipeline.cli.errors import explain
    from pipeline.support.settings import PREFIX

    if os.environ.get(f"{PREFIX}LOG_LEVEL") == "DEBUG":
        raise error
    return explain(error)


@click.group(cls=_Bank, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bank-transfer")
def main() -> None:
    """An event-sourced bank: from a command to a balance that people read.

    \b
    Examples:
      bank up                         run all of it in this terminal, until Ctrl-C
      bank demo                       run a scratch bank under load, then check it
      bank verify                     do the invariants hold on the stores now?
      BANK_PARTITIONS=16 bank up      with a setting; bank settings lists them
      bank forwarder                  run one role; any number of processes
    """


if __name__ == "__main__":
    main()
