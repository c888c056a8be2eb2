"""Readiness of a role, for `/readyz` and as a gauge for alerts over time.

All checks run at the same time, with two seconds to answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

from pipeline.support.metrics import Metric, Metrics, gauge

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


class Ready:
    """The checks of one role, made at each scrape."""

    def __init__(self, role: str, checks: Checks) -> None:
        self._role, self._checks = role, checks
        self._missing = set(checks)

    async def refresh(self) -> None:
        try:
            self._missing = set(await missing(self._checks))
        except asyncio.CancelledError:
            self._missing = set(self._checks)
            raise

    def collect(self) -> Iterator[Metric]:
        family = gauge(
            "bank_ready",
            "1 if the role has what it needs, 0 while it waits for it",
            labels=["role", "need"],
        )
        for need in self._checks:
            family.add_metric([self._role, need], need not in self._missing)
        yield family


def show_readiness(metrics: Metrics, checks: Checks) -> None:
    """Show at `/metrics` what `/readyz` says."""
    ready = Ready(metrics.role, checks)
    metrics.register(ready, before_scrape=ready.refresh)
