"""Ending a task for certain."""

import asyncio
from typing import Any


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it is over, whatever its outcome.

    Once is not always enough: on Python 3.11 `asyncio.wait_for`, which drivers use, can swallow a
    cancellation that comes at the moment of its answer.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.2)
