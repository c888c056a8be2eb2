"""Ticks of a process: what it does now and then, it does at the same moments.

So it wakes up once for all of that, and its requests to a server go together.
"""

import asyncio
import time
from typing import Final

_BEGAN: Final = time.monotonic()
_LEAST: Final = 0.25


def to_tick(seconds: float) -> float:
    """Seconds to the next multiple of `seconds` since the process began.

    To the one after it if that is nearer than a quarter: a timer may fire a moment early.
    """
    rest = seconds - (time.monotonic() - _BEGAN) % seconds
    return rest if rest > _LEAST * seconds else rest + seconds


async def tick(seconds: float) -> None:
    """Sleep to it."""
    await asyncio.sleep(to_tick(seconds))
