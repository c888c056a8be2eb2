"""The metrics of a forwarder, and its readiness checks."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from nats.errors import Error as NatsError
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.coordination.leases import Lease
from pipeline.eventstore import EventStore, token_time
from pipeline.forwarder.stream_publisher import PublisherCounters
from pipeline.messaging import JetStream, JetStreamError
from pipeline.messaging.replicas import all_replicas, shortage
from pipeline.messaging.stream_guards import joined, log_faults
from pipeline.support.metrics import Metrics
from pipeline.support.readiness import Checks, NotReady
from pipeline.support.self_report import Work

_REPLICATED_SECONDS: Final = 30.0
"""For so long what had enough replicas is not looked at again."""
_ANSWER_SECONDS: Final = 1.0


@dataclass(slots=True, eq=False)
class ForwarderMetrics:
    """What the metrics are read from; None until NATS has answered."""

    counters: PublisherCounters = field(default_factory=PublisherCounters)
    js: JetStream | None = None
    store: EventStore | None = None
    lease: Lease | None = None
    replicated: float = -math.inf
    """When nothing had fewer replicas than the settings ask for, on the monotonic clock."""

    def collect(self) -> Iterator[Metric]:
        now = self.counters
        for name, meaning, value in (
            ("events", "Events published to the stream", now.forwarded),
            ("batches", "Atomic batches published, markers and tokens among them", now.batches),
            ("resyncs", "Times that every partition was asked to backfill", now.resyncs),
            ("fenced", "Batches rejected because another forwarder had written", now.fenced),
            ("skipped", "Events that can't be forwarded: unreadable or too large", now.skipped),
        ):
            yield CounterMetricFamily(f"bank_forwarder_{name}", meaning, value)
        leads = self.lease is not None and self.lease.held
        yield GaugeMetricFamily(
            "bank_forwarder_leading", "1 while this forwarder leads, 0 in standby", leads
        )
        yield GaugeMetricFamily(
            "bank_forwarder_token_age_seconds",
            "Age of the change that the log's resume token stands at; NaN: not known",
            self._token_age() if leads else math.nan,
        )
        yield from now.batch_events.collect()
        yield from now.publish_seconds.collect()

    @property
    def work(self) -> Work:
        return Work(lambda: {"": self.counters.forwarded})

    def _token_age(self) -> float:
        at = token_time(self.counters.token)
        return math.nan if at is None else max(0.0, time.time() - at)

    async def nats(self) -> str:
        """Warns of too few replicas: what is stored is on fewer servers than it should be."""
        if self.js is None or not self.js.nc.is_connected:
            raise NotReady
        if self.js.full:
            raise NotReady(self.js.full)
        stream = self.js.names.log
        config = await self.js.config(stream)
        if config is None:
            raise NotReady(f"there is no stream {stream} yet")
        if faults := joined(f"stream {stream}", log_faults(config)):
            raise NotReady(faults)
        return await self._shortage(self.js)

    async def _shortage(self, js: JetStream) -> str:
        if js.replicas == 1 or time.monotonic() - self.replicated < _REPLICATED_SECONDS:
            return ""
        try:
            found = shortage(await all_replicas(js, _ANSWER_SECONDS), js.replicas)
        except (NatsError, JetStreamError):  # an election, say: nothing to warn of is known
            return ""
        if not found:
            self.replicated = time.monotonic()
        return found

    async def mongodb(self) -> None:
        if self.store is not None:
            await self.store.ping()

    async def redis(self) -> None:
        if self.lease is not None and not self.lease.answers:
            raise NotReady


def forwarder_metrics(collector: ForwarderMetrics) -> Metrics:
    metrics = Metrics("forwarder")
    metrics.register(collector)
    return metrics


def forwarder_checks(collector: ForwarderMetrics) -> Checks:
    """Ready: connected, and leads or stands by."""
    return {"nats": collector.nats, "mongodb": collector.mongodb, "redis": collector.redis}
