"""The output that commands share: the option `--json`, the console, and plain tables."""

import sys

import click
from rich.console import Console
from rich.table import Table

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def console() -> Console:
    """The console on stdout; 200 columns wide if that is no terminal, so that lines stay whole."""
    return Console(width=None if sys.stdout.isatty() else 200)


def plain_table(*columns: str) -> Table:
    """A table without lines, whose cells fold."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    return table
