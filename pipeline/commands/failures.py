"""Failures as people read them: what went wrong and what to do, never a traceback."""

import os
from typing import Any, Final

import click

from pipeline.embedded import EmbeddedError
from pipeline.eventstore import StoreUnavailable
from pipeline.index import ProjectionUnavailable
from pipeline.jetstream import ServerTooOld
from pipeline.listening import CannotListen
from pipeline.settings import PREFIX, SettingsError

_SERVERS: Final = "`bank up` or `bank servers` starts servers here; `bank settings` shows the URLs."


class Told(Exception):
    """A failure whose message is already for people; `exit_code` goes to the shell."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Failure(click.ClickException):
    """Shown on stderr as `bank: …`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        click.echo(f"bank: {self.message}", err=True, file=file)


def first(error: BaseException) -> BaseException:
    """The one error to speak of: a task group's first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def explain(error: Exception) -> Failure:
    """What to tell of a failure."""
    cause = first(error)
    failure = _of(cause)
    for note in getattr(cause, "__notes__", []):
        failure.message += f"\n{note}"
    return failure


def _of(cause: BaseException) -> Failure:
    match cause:
        case Told():
            return Failure(str(cause), cause.exit_code)
        case SettingsError() | EmbeddedError() | ServerTooOld() | CannotListen():
            return Failure(str(cause), 1)
        case StoreUnavailable():
            return Failure(f"MongoDB does not answer: {cause}\n{_SERVERS}", 1)
        case ProjectionUnavailable():
            return Failure(f"Elasticsearch does not answer: {cause}\n{_SERVERS}", 1)
        case ConnectionError():
            return Failure(f"no connection: {cause}\n{_SERVERS}", 1)
        case OSError():
            return Failure(str(cause), 1)
    return Failure(
        f"{type(cause).__name__}: {cause}\n"
        f"This should not happen. {PREFIX}LOG_LEVEL=DEBUG shows where it did.",
        1,
    )


class Group(click.Group):
    """A group that tells every failure in words; with BANK_LOG_LEVEL=DEBUG the traceback too."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if os.environ.get(f"{PREFIX}LOG_LEVEL") == "DEBUG":
                raise
            raise explain(error) from None
