"""Is a role ready? All that it depends on is asked at once, and gets a short time to answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

Checks = Mapping[str, Callable[[], Awaitable[None]]]
"""For each dependency, by name, a coroutine function that raises when it does not answer."""

DEADLINE: Final = 2.0


class NotReady(Exception):
    """A check's own way to say no."""


async def missing(checks: Checks) -> list[str]:
    """The names of the checks that failed."""
    answered = await asyncio.gather(*map(_answers, checks.values()))
    return [name for name, fine in zip(checks, answered, strict=True) if not fine]


async def _answers(check: Callable[[], Awaitable[None]]) -> bool:
    try:
        async with asyncio.timeout(DEADLINE):
            await check()
    except Exception:
        return False
    return True
