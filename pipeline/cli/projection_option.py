"""The option `--projection`, and the settings of the commands that have it."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pipeline.cli.failures import CommandFailed
from pipeline.cli.running import configured
from pipeline.model.projection import Projection
from pipeline.model.projection_lookup import UnknownProjection, chosen
from pipeline.support.settings import Settings, require_projections

Target = tuple[Settings, Projection]

F = TypeVar("F", bound=Callable[..., Any])


def of_projection(command: F) -> F:
    """Give a command or a group the option; `projection_of` reads it, in subcommands too."""

    def keep(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        ctx.meta[__name__] = value

    return click.option(
        "--projection",
        metavar="NAME",
        expose_value=False,
        callback=keep,
        help="One of the projections in BANK_PROJECTIONS; by default the first.",
    )(command)


def target(command: str) -> Target:
    """The settings, and the projection that the command line names."""
    settings = configured(command)
    return settings, projection_of(settings)


def projection_of(settings: Settings) -> Projection:
    """The projection that the command line names, or the first; `CommandFailed` if there is none of
    the name, and `SettingsError` if the application has none."""
    name = click.get_current_context().meta.get(__name__)
    require_projections(settings)
    try:
        return settings.kept[0] if name is None else chosen(name, settings.kept)
    except UnknownProjection as error:
        raise CommandFailed(str(error), 2) from error
