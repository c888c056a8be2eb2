"""Readiness as a gauge: what `/readyz` answers, for alerts over time."""

import asyncio
from collections.abc import Iterator

from pipeline.support.metrics import Metric, Metrics, gauge
from pipeline.support.readiness import Checks, missing


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
