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
    """Raised by a check that needs no other error. Its message, if any, is shown to everybody."""


async def missing(checks: Checks, seconds: float = DEADLINE) -> dict[str, str]:
    """By the names of the checks that failed, what a `NotReady` said, or nothing."""
    reasons = await asyncio.gather(*(_reason(check, seconds) for check in checks.values()))
    return {name: why for name, why in zip(checks, reasons, strict=True) if why is not None}


def worded(begin: str, failed: Mapping[str, str]) -> str:
    """The checks that failed: after `begin` those without a reason, then those with one."""
    silent = [name for name, why in failed.items() if not why]
    sentences = [f"{begin} {', '.join(silent)}."] if silent else []
    return " ".join([*sentences, *(f"{name}: {why}." for name, why in failed.items() if why)])


async def _reason(check: Callable[[], Awaitable[None]], seconds: float) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            await check()
    except NotReady as error:
        return str(error)
    except Exception:
        return ""
    return None


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
