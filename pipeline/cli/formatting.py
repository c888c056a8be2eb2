"""The output that commands share: the option `--json`, the console, and plain tables."""

import sys
from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from pipeline.model.visible import visible

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class VisibleConsole(Console):
    """Shows texts with the escapes for what a terminal would obey: people wrote some of them, in
    names of keys, in events, or in the stores."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield (
                segment
                if segment.control
                else segment._replace(text=visible(segment.text, lines=True))
            )


def console(*, err: bool = False) -> Console:
    """The console on stdout, 200 columns wide if that is no terminal, so that lines stay whole; or
    on stderr."""
    if err:
        return VisibleConsole(stderr=True)
    return VisibleConsole(width=None if sys.stdout.isatty() else 200)


def echo(text: Any, *, err: bool = False) -> None:
    """A line of text, as `VisibleConsole` shows it."""
    click.echo(visible(str(text), lines=True), err=err)


class _VisibleTable(Table):
    """Cells of text are no markup: the stores hold what people wrote. They become longer by the
    escapes, so they are in them before the columns get a width."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        shown = (Text(visible(each)) if isinstance(each, str) else each for each in cells)
        super().add_row(*shown, **options)


def plain_table(*columns: str) -> Table:
    """A table without lines, whose cells fold. A `str` is shown as it is, a `Text` in its style."""
    table = _VisibleTable(*columns, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    return table
