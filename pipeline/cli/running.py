"""Begins a command and runs its coroutine: the first signal cancels it, a second one kills it."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from pipeline.cli.failures import INTERRUPTED, Failure
from pipeline.support import event_loop, logs
from pipeline.support.cancellation import mend_wait_for
from pipeline.support.settings import Settings, load
from pipeline.support.stopping import ROLE_GRACE, leave_threads, leave_within

T = TypeVar("T")


def configured(command: str) -> Settings:
    """The settings; from now on this process logs as they say. Raises `SettingsError`."""
    settings = load()
    logs.setup(settings, command)
    return settings


class _Interrupted(Exception):
    """A signal has cancelled the coroutine."""


def run(main: Coroutine[Any, Any, T], exit_code: int | None = None) -> T | None:
    """Run `main` to its end. SIGTERM or SIGINT cancels it; the result is None then.

    With an exit code the process ends within `ROLE_GRACE` after that; else it waits, however long
    it takes.
    """
    mend_wait_for()
    with suppress(_Interrupted):
        return asyncio.run(_until_signal(main, exit_code))
    return None


def run_role(main: Coroutine[Any, Any, T]) -> T | None:
    """Like `run`, on the event loop of the roles. After a signal it ends within `ROLE_GRACE`."""
    with suppress(_Interrupted):
        return event_loop.run(_until_signal(main, 0))
    return None


def complete(main: Coroutine[Any, Any, T], *, message: str = "interrupted") -> T:
    """Run `main` to its end. After a signal, which cancels it, the process shows the message and
    ends with `INTERRUPTED` within `ROLE_GRACE`."""
    mend_wait_for()
    try:
        return asyncio.run(_until_signal(main, INTERRUPTED, message))
    except _Interrupted:
        raise SystemExit(INTERRUPTED) from None


async def _until_signal(main: Coroutine[Any, Any, T], code: int | None, message: str = "") -> T:
    task = asyncio.ensure_future(main)
    loop = asyncio.get_running_loop()
    asked = False

    def stop(number: int) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        if code is not None:
            leave_within(ROLE_GRACE, code)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not asked:
            raise
        if message:  # now: the loop may wait for threads that hang until the process has left
            Failure(message, INTERRUPTED).show()
        if code is not None:
            leave_threads(code)
        raise _Interrupted from None
