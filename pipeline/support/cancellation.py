"""Ending a task for certain, from outside and from within."""

import asyncio
from typing import Any


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it is over, whatever its outcome.

    Once is not always enough: on Python 3.11 `asyncio.wait_for`, which drivers use, can swallow a
    cancellation that comes at the moment of its answer.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.2)


def heed_cancellation() -> None:
    """Raise CancelledError if this task was cancelled and something has swallowed it.

    `asyncio.wait_for` of Python 3.11 does that when its result comes at the same moment, and
    nats-py waits so for every reply.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
