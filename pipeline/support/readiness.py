"""Readiness of a role: all checks run at the same time, with two seconds to answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

Checks = Mapping[str, Callable[[], Awaitable[None]]]
"""By the dependency's name, a coroutine function that raises if it does not answer."""

DEADLINE: Final = 2.0


class NotReady(Exception):
    """Raised by a check that needs no other error."""


class Lacking(Exception):
    """Raised by a check whose server answers; its text says what is wrong there."""


async def missing(checks: Checks) -> list[str]:
    """The names of the checks that failed."""
    return [*await failures(checks)]


async def failures(checks: Checks) -> dict[str, str]:
    """What is wrong, by the name of the check: "" if there is no answer."""
    answered = await asyncio.gather(*map(_failure, checks.values()))
    found = zip(checks, answered, strict=True)
    return {name: failure for name, failure in found if failure is not None}


def described(found: Mapping[str, str], silent: str) -> str:
    """What `failures` found, in a sentence each; `silent` comes before the names of the others."""
    names = [name for name, failure in found.items() if not failure]
    said = [f"{silent} {', '.join(names)}."] if names else []
    return " ".join([*said, *(f"{name}: {why}." for name, why in found.items() if why)])


async def _failure(check: Callable[[], Awaitable[None]]) -> str | None:
    try:
        async with asyncio.timeout(DEADLINE):
            await check()
    except Lacking as error:
        return str(error)
    except Exception:
        return ""
    return None
