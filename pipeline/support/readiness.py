"""Readiness of a role: all checks run at the same time, with two seconds to answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

Checks = Mapping[str, Callable[[], Awaitable[None]]]
"""By the dependency's name, a coroutine function that raises if it does not answer."""

DEADLINE: Final = 2.0


class NotReady(Exception):
    """Raised by a check that needs no other error."""


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
