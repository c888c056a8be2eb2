"""How a command fails: with a message for people and an exit code; `errors.py` writes the
message."""

from typing import Any, Final

import click

from pipeline.model.visible import visible

INTERRUPTED: Final = 130
"""The exit code of a command that was interrupted before its outcome was known, as of shells."""


class CommandFailed(Exception):
    """A failure with a message for people; `exit_code` goes to the shell."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Failure(click.ClickException):
    """Shown on stderr as `bank: …`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        click.echo(f"bank: {visible(self.message, lines=True)}", err=True, file=file)
