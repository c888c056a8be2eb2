"""Readiness of a role: all checks run at the same time, with two seconds to answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

Checks = Mapping[str, Callable[[], Awaitable[None]]]
"""By the dependency's name, a coroutine function that raises if it does not answer."""

DEADLINE: Final = 2.0


class NotReady(Exception):
    """Raised by a check that needs no other error. Its message, if any, is shown to everybody."""


async def missing(checks: Checks) -> dict[str, str]:
    """The names of the checks that failed, each with the reason, or "" if no check tells one."""
    reasons = await asyncio.gather(*map(_reason, checks.values()))
    return {name: why for name, why in zip(checks, reasons, strict=True) if why is not None}


def shown(reasons: Mapping[str, str]) -> str:
    """What `missing` found, in words: `redis, nats (insufficient resources (10023))`."""
    return ", ".join(f"{name} ({why})" if why else name for name, why in reasons.items())


async def _reason(check: Callable[[], Awaitable[None]]) -> str | None:
    try:
        async with asyncio.timeout(DEADLINE):
            await check()
    except NotReady as error:
        return str(error)
    except Exception:
        return ""
    return None
