"""Begins a command and runs its coroutine: the first signal cancels it, a second one kills it."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from pipeline.cli.failures import CommandFailed
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


def run(main: Coroutine[Any, Any, T]) -> T | None:
    """Run `main` to its end. SIGTERM or SIGINT cancels it; the result is None then."""
    mend_wait_for()
    return asyncio.run(_until_signal(main))


def run_role(main: Coroutine[Any, Any, T]) -> T | None:
    """Like `run`, on the event loop of the roles. After a signal it ends within `ROLE_GRACE`."""
    return event_loop.run(_until_signal(main, ROLE_GRACE))


def complete(
    main: Coroutine[Any, Any, T], *, message: str = "interrupted", exit_code: int = 1
) -> T:
    """Like `run`, but `CommandFailed` if a signal has cancelled it. `main` must not return None."""
    result = run(main)
    if result is None:
        raise CommandFailed(message, exit_code)
    return result


async def _until_signal(main: Coroutine[Any, Any, T], grace: float | None = None) -> T | None:
    task = asyncio.ensure_future(main)
    loop = asyncio.get_running_loop()
    asked = False

    def stop(number: int) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        if grace is not None:
            leave_within(grace)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not asked:
            raise
        if grace is not None:
            leave_threads()
        return None
