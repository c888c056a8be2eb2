"""How late a projection is, which of its partitions is furthest behind, and since when."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.operations.status.partitions import PartitionStatus
from pipeline.support.logs import moment

Alarm = Literal["amber", "red"]

AMBER: Final = 5.0
RED: Final = 30.0
"""Seconds behind from which on it is told; from `RED` on the alert `BankLag` tells it, too."""


@dataclass(frozen=True, slots=True)
class Furthest:
    """The partition that is furthest behind, by how many seconds, and `since` when it is late, an
    RFC 3339 time; None if it is not."""

    partition: int
    lag_seconds: float
    since: str | None


def alarm(lag_seconds: float | None) -> Alarm | None:
    """What so much lag means; None if it is little or not known."""
    if lag_seconds is None or lag_seconds < AMBER:
        return None
    return "red" if lag_seconds >= RED else "amber"


class Lateness:
    """Remembers of one projection since when its partitions are late."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def furthest(self, partitions: Iterable[PartitionStatus], now: float) -> Furthest | None:
        """As read `now`, in seconds since 1970; None if no partition is known to be behind."""
        behind = [(each.lag_seconds or 0.0, each.partition) for each in partitions]
        for late, partition in behind:
            if alarm(late) is None:
                self._since.pop(partition, None)
            else:
                self._since.setdefault(partition, now - late + AMBER)
        most, partition = max(behind, default=(0.0, 0))
        if most <= 0:
            return None
        since = self._since.get(partition)
        return Furthest(partition, most, None if since is None else moment(since))
