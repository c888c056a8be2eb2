"""A worker's metrics and readiness checks."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.agents.context import ProjectionContext
from pipeline.agents.projection_agent import ProjectionAgent
from pipeline.agents.projection_runner import ProjectionRunner
from pipeline.coordination.ownership import Ownership
from pipeline.search import ProjectionBroken, ProjectionUnavailable
from pipeline.support.metrics import Metrics
from pipeline.support.readiness import Checks, NotReady
from pipeline.support.retry import told
from pipeline.support.self_report import Work


class WorkerMetrics:
    """Reads a worker's state. An agent has no projection runner until NATS has answered, while the
    number of partitions changes, and at the end."""

    def __init__(
        self,
        ownership: Ownership,
        agents: Sequence[ProjectionAgent],
        changelogs_full: Callable[[], str] = str,
    ) -> None:
        """`changelogs_full` tells why JetStream stores no changelog; "" if it does."""
        self._ownership, self._agents = ownership, agents
        self._changelogs_full = changelogs_full

    def collect(self) -> Iterator[Metric]:
        for name, meaning, value in _WORK:
            yield _each(CounterMetricFamily, f"bank_worker_{name}", meaning, self._counted(value))
        yield self._healed()
        counters = {agent.topic: agent.counters for agent in self._agents}
        yield _by_projection({name: each.batch_events for name, each in counters.items()})
        yield _by_projection({name: each.batch_seconds for name, each in counters.items()})
        for make, name, meaning, of in _RUNNERS:
            figures = [(agent.topic, of(agent.runner)) for agent in self._agents]
            yield _each(make, f"bank_worker_{name}", meaning, figures)
        yield from _leases(self._ownership)

    @property
    def work(self) -> Work:
        return Work(lambda: {agent.topic: agent.counters.applied for agent in self._agents})

    async def nats(self) -> None:
        if why := self._changelogs_full():  # first: without its streams the worker has no runner
            raise NotReady(why)
        for runner in self._runners():
            js = runner.context.js
            if not js.nc.is_connected or js.full:
                raise NotReady(js.full)

    async def redis(self) -> None:
        if not self._ownership.known:
            raise NotReady

    async def elasticsearch(self) -> None:
        """Each projection can be read as readers do, and written; so can the checkpoints."""
        runners = [agent.runner for agent in self._agents if agent.runner is not None]
        await asyncio.gather(*(require_elasticsearch(each.context) for each in runners))

    async def partitions(self) -> None:
        """Its share is settled, and each partition of it is acquired and, if needed, backfilled."""
        if not self._ownership.settled:
            raise NotReady
        for runner in self._runners():
            waiting = [each for each in runner.processors.values() if each.owned is None]
            if waiting:
                raise NotReady("; ".join({each.trouble for each in waiting if each.trouble}))

    def _runners(self) -> list[ProjectionRunner]:
        """One for each agent; raises `NotReady`."""
        found = [agent.runner for agent in self._agents if agent.runner is not None]
        if len(found) < len(self._agents):
            raise NotReady
        return found

    def _counted(self, field: str) -> list[tuple[str, float]]:
        return [(agent.topic, getattr(agent.counters, field)) for agent in self._agents]

    def _healed(self) -> Metric:
        family = CounterMetricFamily(
            "bank_worker_accounts_healed",
            "Accounts loaded from the event store, because an event was missing (gap) or their "
            "document could not be trusted (unsound)",
            labels=["projection", "cause"],
        )
        for agent in self._agents:
            family.add_metric([agent.topic, "gap"], agent.counters.gaps)
            family.add_metric([agent.topic, "unsound"], agent.counters.unsound)
        return family


_WORK: Final = (
    ("events_applied", "Events applied to documents", "applied"),
    ("events_duplicate", "Events that came again and were skipped", "duplicates"),
    ("events_reordered", "Events that came after a later one of their account", "reordered"),
    ("events_waiting", "Events left in the event store: their account is parked", "waiting"),
    ("messages_unreadable", "Messages that are no events, skipped", "unreadable"),
    ("accounts_parked", "Times that an event which can't be applied parked one", "parked"),
    ("accounts_repaired", "Accounts rewritten over what somebody wrote", "repaired"),
    ("documents_written", "Documents written to Elasticsearch", "documents"),
    ("partitions_synchronised", "Partitions backfilled from the event store", "backfilled"),
    ("partitions_retaken", "Times that a partition was acquired again after a fault", "reacquired"),
)


async def require_elasticsearch(context: ProjectionContext) -> None:
    """Raise `NotReady` with all that is wrong."""
    found = await context.generations.faults()
    if context.elastic.trouble is not None:
        found.append(context.elastic.trouble)
    if (fault := await context.checkpoints.fault()) is not None:
        found.append(fault)
    try:
        await context.elastic.require_readable(context.projection.alias)
    except ProjectionBroken as error:
        found.append(str(error))
    except ProjectionUnavailable as error:
        found.append(told(error))
    if found:
        raise NotReady("; ".join(dict.fromkeys(found)))


def _retries(runner: ProjectionRunner | None) -> float:
    return runner.context.elastic.retries if runner else 0


def _parked(runner: ProjectionRunner | None) -> float:
    return len(runner.context.parked.all()) if runner else 0


def _held(runner: ProjectionRunner | None) -> float:
    return len(runner.processors) if runner else 0


def _ready(runner: ProjectionRunner | None) -> float:
    processors = runner.processors.values() if runner else ()
    return sum(processor.owned is not None for processor in processors)


_RUNNERS: Final = (
    (
        CounterMetricFamily,
        "bulk_retries",
        "Requests to Elasticsearch repeated because it was busy or did not answer",
        _retries,
    ),
    (
        GaugeMetricFamily,
        "parked_accounts",
        "Accounts parked now in the whole bank, as this worker knows it",
        _parked,
    ),
    (GaugeMetricFamily, "partitions_held", "Partitions this worker has", _held),
    (
        GaugeMetricFamily,
        "partitions_ready",
        "Those of them whose events are applied; the others are being acquired or backfilled",
        _ready,
    ),
)


def _each(
    make: Callable[..., CounterMetricFamily | GaugeMetricFamily],
    name: str,
    meaning: str,
    figures: Iterable[tuple[str, float]],
) -> Metric:
    """A family with a sample for each projection."""
    family = make(name, meaning, labels=["projection"])
    for projection, figure in figures:
        family.add_metric([projection], figure)
    return family


def _by_projection(histograms: Mapping[str, Histogram]) -> Metric:
    """One family of the projections' histograms, each sample labelled with its projection."""
    families = {name: family for name, each in histograms.items() for family in each.collect()}
    first = next(iter(families.values()))
    whole = Metric(first.name, first.documentation, first.type)
    for name, family in families.items():
        for sample in family.samples:
            whole.add_sample(sample.name, {"projection": name, **sample.labels}, sample.value)
    return whole


def _leases(ownership: Ownership) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "bank_worker_rebalances",
        "Times that this worker's partitions changed",
        ownership.rebalances,
    )
    yield GaugeMetricFamily(
        "bank_worker_leases_held", "Leases this worker has", len(ownership.held)
    )
    yield GaugeMetricFamily(
        "bank_worker_leases_known",
        "1 while Redis tells who has which lease, 0 while it does not answer",
        ownership.known,
    )


def worker_metrics(worker: WorkerMetrics) -> Metrics:
    metrics = Metrics("worker")
    metrics.register(worker)
    return metrics


def worker_checks(worker: WorkerMetrics) -> Checks:
    """Ready: connected, and its share of the partitions is acquired."""
    return {
        "nats": worker.nats,
        "redis": worker.redis,
        "elasticsearch": worker.elasticsearch,
        "partitions": worker.partitions,
    }
