"""A role's metrics for Prometheus, in a registry of its own that collects at each scrape.

    metrics = Metrics("balances")
    metrics.register(collector, before_scrape=snapshot.refresh)

What a role counts for its metrics alone is a `Counter` or a `Histogram` of prometheus_client. What
it also reads itself, often, is a plain integer (`tables/counters.py`): to read a `Counter` is to
collect all its samples (`totals`).
A collector shows such figures and those of servers: its `collect()` yields metric families and
can't await, so `before_scrape` asks the servers first and keeps a snapshot. Names begin with
`bank_`, in whose place the page of another application has its name; no label names an account.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pipeline.model.names import BANK, Names
from pipeline.support.retry import brief

log = logging.getLogger(__name__)

BeforeScrape = Callable[[], Awaitable[None]]
"""Refreshes a snapshot. A failure, or more than PATIENCE, is logged and the collector shows what it
has, so an old snapshot must be recognisable as one."""

PATIENCE: Final = 3.0

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Upper ends of the buckets of a `Histogram` of durations, and of one of numbers."""

# Else the library adds a time series `…_created` to each counter and histogram.
disable_created_metrics()  # type: ignore[no-untyped-call]


class RefusedRequests:
    """Counts the answers to those who may not have what they asked for."""

    _STATUSES: Final = (401, 403)

    def __init__(self, registry: CollectorRegistry) -> None:
        self._number = Counter(
            "bank_http_refused",
            "Requests refused: 401 without a key that is known, 403 with one that may not do it",
            ("status",),
            registry=registry,
        )
        for status in self._STATUSES:
            self._number.labels(status)

    def note(self, status: int) -> None:
        """A request was answered with this status."""
        if status in self._STATUSES:
            self._number.labels(status).inc()


class Metrics:
    """All metrics of one role. `names`: of the application, which whoever shows them sets."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.names: Names = BANK
        self.registry = CollectorRegistry(auto_describe=False)
        self._before: list[BeforeScrape] = []
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        Gauge(
            "bank_build_info",
            "Version of the bank and role of the process; always 1",
            ("role", "version"),
            registry=self.registry,
        ).labels(role, version("bank-transfer")).set(1)

    def register(self, collector: Collector, *, before_scrape: BeforeScrape | None = None) -> None:
        """Add a collector's families."""
        self.registry.register(collector)
        if before_scrape is not None:
            self.refresh_with(before_scrape)

    def refresh_with(self, before_scrape: BeforeScrape) -> None:
        """Call it before each scrape."""
        self._before.append(before_scrape)

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics now, in the format that the header Accept asks for, and its content type."""
        # All before the first family is collected: a collector can't await.
        await asyncio.gather(*map(_refresh, self._before))
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type  # all that it calls is `collect`

    def collect(self) -> Iterator[Metric]:
        """All families, as they are shown."""
        for family in self.registry.collect():
            family.name = self.names.metric(family.name)
            family.samples = [
                each._replace(name=self.names.metric(each.name)) for each in family.samples
            ]
            yield family


async def _refresh(hook: BeforeScrape) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await hook()
    except Exception as error:
        log.warning("Metrics could not be brought up to date: %s", brief(error))


def totals(counter: Counter, label: str) -> dict[str, float]:
    """What it has counted, by one of its labels."""
    found: dict[str, float] = {}
    for sample in (each for family in counter.collect() for each in family.samples):
        value = sample.labels[label]
        found[value] = found.get(value, 0.0) + sample.value
    return found


def histogram(name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
    """A histogram of one object, in no registry: a collector yields its `collect()`."""
    return Histogram(name, meaning, buckets=buckets, registry=None)
