"""A role's metrics for Prometheus, in a registry of its own that collects at each scrape.

    metrics = Metrics("balances")
    metrics.register(collector, before_scrape=snapshot.refresh)

Counters are plain objects (`tables/counters.py`, `Histogram`); a collector reads them in
`collect()`, which yields metric families and can't await. `before_scrape` asks servers first and
keeps a snapshot for the collector. Names begin with `bank_`; no label names an account.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pipeline.support.histogram import Histogram
from pipeline.support.retry import brief

__all__ = [
    "BeforeScrape",
    "Collector",
    "Metric",
    "Metrics",
    "buckets",
    "counter",
    "gauge",
    "histogram",
]

log = logging.getLogger(__name__)

BeforeScrape = Callable[[], Awaitable[None]]
"""Refreshes a snapshot. A failure, or more than PATIENCE, is logged and the collector shows what it
has, so an old snapshot must be recognisable as one."""

PATIENCE: Final = 3.0


class Metrics:
    """All metrics of one role."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.registry = CollectorRegistry(auto_describe=False)
        self._before: list[BeforeScrape] = []
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.register(_Build(role))

    def register(self, collector: Collector, *, before_scrape: BeforeScrape | None = None) -> None:
        """Add a collector's families."""
        self.registry.register(collector)
        if before_scrape is not None:
            self._before.append(before_scrape)

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics now, in the format that the header Accept asks for, and its content type."""
        await asyncio.gather(*map(_refresh, self._before))
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


async def _refresh(hook: BeforeScrape) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await hook()
    except Exception as error:
        log.warning("Metrics could not be brought up to date: %s", brief(error))


class _Build:
    def __init__(self, role: str) -> None:
        self._labels = {"role": role, "version": version("bank-transfer")}

    def collect(self) -> Iterator[Metric]:
        family = gauge("bank_build_info", "Version of the bank and role of the process; always 1")
        family.add_sample(family.name, self._labels, 1)
        yield family


def counter(
    name: str, meaning: str, value: float | None = None, labels: Sequence[str] = ()
) -> CounterMetricFamily:
    """A family that only rises. `name` without `_total`; no value: `add_metric` adds them."""
    return CounterMetricFamily(name, meaning, value, labels=labels or None)


def gauge(
    name: str, meaning: str, value: float | None = None, labels: Sequence[str] = ()
) -> GaugeMetricFamily:
    """A family that rises and falls."""
    return GaugeMetricFamily(name, meaning, value, labels=labels or None)


def histogram(
    name: str, meaning: str, values: Histogram | None = None, labels: Sequence[str] = ()
) -> HistogramMetricFamily:
    """A family of buckets. No values: `add_metric(labels, buckets(…), ….sum)` adds them."""
    family = HistogramMetricFamily(name, meaning, labels=labels)
    if values is not None:
        family.add_metric([], buckets(values), values.sum)
    return family


def buckets(values: Histogram) -> list[tuple[str, float]]:
    """Upper ends and counts as the exposition wants them."""
    ends = [*map(floatToGoString, values.bounds), "+Inf"]
    return list(zip(ends, values.cumulative(), strict=True))
