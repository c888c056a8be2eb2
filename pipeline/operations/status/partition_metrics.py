"""The status of partitions as gauges. An unknown figure is NaN, which no alert rule takes for 0."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from pipeline.operations.status.partitions import PartitionStatus
from pipeline.support.metrics import Metric, gauge

_Value = Callable[[PartitionStatus], float | None]


def _owned(status: PartitionStatus) -> float | None:
    return None if status.owner_unknown else status.owner is not None


_GAUGES: Final[tuple[tuple[str, str, _Value], ...]] = (
    (
        "bank_partition_lag_events",
        "Events in MongoDB that are not in the live index yet; NaN: not known",
        lambda status: status.lag_events,
    ),
    (
        "bank_partition_lag_seconds",
        "Age of the oldest event in MongoDB that is not in the live index yet; NaN: not known",
        lambda status: status.lag_seconds,
    ),
    (
        "bank_partition_lag_known",
        "1 if the lag of the partition is known, else 0",
        lambda status: status.lag_events is not None,
    ),
    (
        "bank_partition_owned",
        "1 if a worker holds the lease of the partition, else 0; NaN: not known",
        _owned,
    ),
    (
        "bank_partition_epoch",
        "Highest epoch of the partition; NaN: not known, or no worker has ever had it",
        lambda status: status.epoch,
    ),
    (
        "bank_parked_accounts",
        "Accounts of the partition with an event that can't be applied; NaN: not known",
        lambda status: status.parked,
    ),
)


def families(statuses: Mapping[str, Iterable[PartitionStatus]]) -> Iterator[Metric]:
    """A family for each figure, with a sample for each projection and partition."""
    every = [(name, status) for name, found in statuses.items() for status in found]
    for name, meaning, value_of in _GAUGES:
        family = gauge(name, meaning, labels=["projection", "partition"])
        for projection, status in every:
            value = value_of(status)
            labels = [projection, str(status.partition)]
            family.add_metric(labels, math.nan if value is None else value)
        yield family
