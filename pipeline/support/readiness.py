"""Readiness of a role, for `/readyz` and as a gauge for alerts over time.

All checks run at the same time, with two seconds to answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from prometheus_client import Gauge

from pipeline.support.metrics import Metrics

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


def show_readiness(metrics: Metrics, checks: Checks) -> None:
    """Show at `/metrics` what `/readyz` says; the checks are made at each scrape."""
    ready = Gauge(
        "bank_ready",
        "1 if the role has what it needs, 0 while it waits for it",
        ("role", "need"),
        registry=metrics.registry,
    )

    async def refresh() -> None:
        lacking = set(checks)  # also if the scrape can't wait for the checks
        try:
            lacking = set(await missing(checks))
        finally:
            for need in checks:
                ready.labels(metrics.role, need).set(need not in lacking)

    metrics.refresh_with(refresh)
