"""Commands fail in words; `explained.py` finds them."""

import os
from typing import Any

import click


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


class Group(click.Group):
    """A group that tells every failure in words; with BANK_LOG_LEVEL=DEBUG the traceback too."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            # It knows the errors of every driver: imported when there is one.
            from pipeline.cli.errors import explain
            from pipeline.support.settings import PREFIX

            if os.environ.get(f"{PREFIX}LOG_LEVEL") == "DEBUG":
                raise
            raise explain(error) from None
