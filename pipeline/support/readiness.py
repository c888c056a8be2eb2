"""Readiness of a role, for `/readyz` and as a gauge for alerts over time.

All checks run at the same time, with two seconds to answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from prometheus_client import Gauge

from pipeline.support.metrics import Metrics
from pipeline.support.server_answers import public

Check = Callable[[], Awaitable[str | None]]
Checks = Mapping[str, Check]
"""By the dependency's name, a coroutine function that raises if it does not answer. It may return a
warning: the role can work, but somebody should look."""

DEADLINE: Final = 2.0


class NotReady(Exception):
    """Raised by a check that needs no other error. Its message, if any, is shown to everybody."""


class Readiness(NamedTuple):
    """`missing`: by the names of the checks that failed, what a `NotReady` said, with which error
    a server answered, or nothing.
    `warnings`: by the names of others, what they warn of."""

    missing: dict[str, str]
    warnings: dict[str, str]


async def readiness(checks: Checks, seconds: float = DEADLINE) -> Readiness:
    """Make all checks."""
    found = await asyncio.gather(*(_checked(check, seconds) for check in checks.values()))
    named = list(zip(checks, found, strict=True))
    return Readiness(
        {name: why for name, (why, _) in named if why is not None},
        {name: warning for name, (_, warning) in named if warning},
    )


async def missing(checks: Checks, seconds: float = DEADLINE) -> dict[str, str]:
    """Those that failed."""
    return (await readiness(checks, seconds)).missing


def worded(begin: str, failed: Mapping[str, str]) -> str:
    """The checks that failed: after `begin` those without a reason, then those with one."""
    silent = [name for name, why in failed.items() if not why]
    sentences = [f"{begin} {', '.join(silent)}."] if silent else []
    return " ".join([*sentences, *(f"{name}: {why}." for name, why in failed.items() if why)])


async def _checked(check: Check, seconds: float) -> tuple[str | None, str | None]:
    """Why it failed, or what it warns of."""
    try:
        async with asyncio.timeout(seconds):
            return None, await check()
    except NotReady as error:
        return str(error), None
    except Exception as error:
        return public(error), None


def show_readiness(metrics: Metrics, checks: Checks) -> None:
    """Show at `/metrics` what `/readyz` says; the checks are made at each scrape."""
    ready = Gauge(
        "bank_ready",
        "1 if the role has what it needs, 0 while it waits for it",
        ("role", "need"),
        registry=metrics.registry,
    )

    warning = Gauge(
        "bank_warning",
        "1 while the role has what it needs, but with a warning, which /readyz tells",
        ("role", "need"),
        registry=metrics.registry,
    )

    async def refresh() -> None:
        # Also if the scrape can't wait for the checks.
        lacking, warned = dict.fromkeys(checks, ""), dict[str, str]()
        try:
            lacking, warned = await readiness(checks)
        finally:
            for need in checks:
                ready.labels(metrics.role, need).set(need not in lacking)
                warning.labels(metrics.role, need).set(need in warned)

    metrics.refresh_with(refresh)
