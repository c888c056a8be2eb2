"""The option `--projection`, and the settings of the commands that have it."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pipeline.cli.failures import CommandFailed
from pipeline.cli.running import configured
from pipeline.model.projection import FIRST, Projection
from pipeline.model.projection_lookup import UnknownProjection, chosen, projections
from pipeline.support.settings import Settings

Target = tuple[Settings, Projection]

F = TypeVar("F", bound=Callable[..., Any])


def of_projection(command: F) -> F:
    """Give a command or a group the option; `projection_of` reads it, in subcommands too."""

    def keep(ctx: click.Context, _: click.Parameter, value: str) -> None:
        ctx.meta[__name__] = value

    return click.option(
        "--projection",
        metavar="NAME",
        default=FIRST,
        show_default=True,
        expose_value=False,
        callback=keep,
        help="One of the projections in BANK_PROJECTIONS.",
    )(command)


def target(command: str) -> Target:
    """The settings, and the projection that the command line names."""
    settings = configured(command)
    return settings, projection_of(settings)


def projection_of(settings: Settings) -> Projection:
    """The projection that the command line names; `CommandFailed` if the bank has none of the
    name."""
    name = click.get_current_context().meta.get(__name__, FIRST)
    try:
        return chosen(name, projections(settings.projections))
    except UnknownProjection as error:
        raise CommandFailed(str(error), 2) from error
