"""Cancellation that can't be swallowed, from outside a task and within it."""

import asyncio
from typing import Any


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended, whatever its outcome.

    It cancels until then: on Python 3.11 `asyncio.wait_for`, which drivers use, swallows a
    cancellation that comes at the same moment as its result.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.2)


def raise_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled and something has swallowed that.

    See `cancel_and_wait`; nats-py waits by `asyncio.wait_for` for every reply.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
