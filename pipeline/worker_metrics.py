"""What a worker shows of itself: its metrics, and what it needs to be ready."""

from collections.abc import Callable, Iterator

from pipeline.metrics import Metric, Metrics, counter, gauge, histogram
from pipeline.ownership import Ownership
from pipeline.projector import Projector
from pipeline.readiness import Checks, NotReady
from pipeline.tables.counters import Counters


class Seen:
    """A worker as it is now. `projector` gives None while there is none: until NATS has answered,
    while the number of partitions changes, and at the end."""

    def __init__(
        self,
        ownership: Ownership,
        counters: Counters,
        projector: Callable[[], Projector | None],
    ) -> None:
        self._ownership, self._counters, self._projector = ownership, counters, projector

    def collect(self) -> Iterator[Metric]:
        yield from _work(self._counters)
        yield from _projection(self._projector())
        yield from _leases(self._ownership)

    async def nats(self) -> None:
        projector = self._projector()
        if projector is None or not projector.shared.js.nc.is_connected:
            raise NotReady

    async def redis(self) -> None:
        if not self._ownership.known:
            raise NotReady

    async def elasticsearch(self) -> None:
        projector = self._projector()
        if projector is not None and await projector.shared.generations.live() is None:
            raise NotReady

    async def partitions(self) -> None:
        """Its share is settled, and what it has is taken: synchronised, if that was needed."""
        projector = self._projector()
        if projector is None or not self._ownership.settled:
            raise NotReady
        if any(applier.taken is None for applier in projector.appliers.values()):
            raise NotReady


def _work(now: Counters) -> Iterator[Metric]:
    for name, meaning, value in (
        ("events_applied", "Events applied to documents", now.applied),
        ("events_duplicate", "Events that came again and were skipped", now.duplicates),
        ("events_reordered", "Events that came after a later one of their account", now.reordered),
        ("events_waiting", "Events left in the event store: their account is parked", now.waiting),
        ("messages_unreadable", "Messages that are no events, skipped", now.unreadable),
        ("accounts_parked", "Times that an event which can't be applied parked one", now.parked),
        ("accounts_repaired", "Accounts rewritten over what somebody wrote", now.repaired),
        ("documents_written", "Documents written to Elasticsearch", now.documents),
        ("partitions_synchronised", "Partitions filled from the event store", now.synchronised),
        ("partitions_retaken", "Times that a partition was taken anew after a fault", now.retaken),
    ):
        yield counter(f"bank_worker_{name}", meaning, value)
    healed = counter(
        "bank_worker_accounts_healed",
        "Accounts loaded from the event store, because an event was missing (gap) or their "
        "document could not be believed (unsound)",
        labels=["cause"],
    )
    healed.add_metric(["gap"], now.gaps)
    healed.add_metric(["unsound"], now.unsound)
    yield healed
    yield histogram("bank_worker_batch_events", "Events in a batch", now.batch_events)
    yield histogram(
        "bank_worker_batch_seconds",
        "Time from offering a batch to having written its documents",
        now.batch_seconds,
    )


def _projection(projector: Projector | None) -> Iterator[Metric]:
    appliers = list(projector.appliers.values()) if projector else []
    yield counter(
        "bank_worker_bulk_retries",
        "Requests to Elasticsearch repeated because it was busy or did not answer",
        projector.shared.elastic.retries if projector else 0,
    )
    yield gauge(
        "bank_worker_parked_accounts",
        "Accounts parked now in the whole bank, as this worker knows it",
        len(projector.shared.parked.all()) if projector else 0,
    )
    yield gauge("bank_worker_partitions_held", "Partitions this worker has", len(appliers))
    yield gauge(
        "bank_worker_partitions_ready",
        "Those of them that are being applied; the others are being taken or synchronised",
        sum(applier.taken is not None for applier in appliers),
    )


def _leases(ownership: Ownership) -> Iterator[Metric]:
    yield counter(
        "bank_worker_rebalances",
        "Times that this worker's partitions changed",
        ownership.rebalances,
    )
    yield gauge("bank_worker_leases_held", "Leases this worker has", len(ownership.held))
    yield gauge(
        "bank_worker_leases_known",
        "1 while Redis tells who has which lease, 0 while it does not answer",
        ownership.known,
    )


def worker_metrics(seen: Seen) -> Metrics:
    metrics = Metrics("worker")
    metrics.register(seen)
    return metrics


def worker_checks(seen: Seen) -> Checks:
    """Ready: connected, and has its share of the partitions."""
    return {
        "nats": seen.nats,
        "redis": seen.redis,
        "elasticsearch": seen.elasticsearch,
        "partitions": seen.partitions,
    }
