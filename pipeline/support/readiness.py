"""Readiness of a role: all checks run at the same time, with two seconds to answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

Checks = Mapping[str, Callable[[], Awaitable[None]]]
"""By the dependency's name, a coroutine function that raises if it does not answer."""

DEADLINE: Final = 2.0


class NotReady(Exception):
    """Raised by a check that needs no other error. What it says is shown to everybody."""


async def missing(checks: Checks) -> dict[str, str]:
    """By the names of the checks that failed, what a `NotReady` said, or nothing."""
    answered = await asyncio.gather(*map(_answer, checks.values()))
    return {name: said for name, said in zip(checks, answered, strict=True) if said is not None}


def worded(begin: str, failed: Mapping[str, str]) -> str:
    """The checks that failed in a sentence, after `begin`, and what they said in others."""
    said = [f" {name}: {why}." for name, why in failed.items() if why]
    return f"{begin} {', '.join(failed)}.{''.join(said)}"


async def _answer(check: Callable[[], Awaitable[None]]) -> str | None:
    try:
        async with asyncio.timeout(DEADLINE):
            await check()
    except NotReady as error:
        return str(error)
    except Exception:
        return ""
    return None
