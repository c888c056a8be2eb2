"""Fairness between replicas at a hot aggregate: one that never pauses would keep the others out.

A replica that loses a race must read before it tries again, so it would lose every time. The winner
therefore pauses for as long as a read and a batch take: always while other replicas are known to
write to the aggregate, and otherwise now and then, to find out.
"""

import time
from typing import Final

_REMEMBERED: Final = 1000
_KNOWN: Final = 1.0
"""Seconds for which another replica that wrote to the aggregate is assumed to go on."""
_READ_AND_WRITE: Final = 2
"""The others need so many times a batch: they read the events of this one before their own."""
_LEAST: Final = 0.02
"""Seconds to pause at least: the others may be at a joint command, which takes longer."""
_PROBING: Final = 0.5
"""Seconds without a pause after which there is one, to see whether another replica waits."""


class Fairness:
    """When one replica must pause at one aggregate; times in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._others_until = self._resume = self._ended = self._busy_since = 0.0

    def pause(self) -> float:
        """Seconds to pause before the next batch."""
        return max(0.0, self._resume - time.monotonic())

    def conflicted(self) -> None:
        """Another replica was first: try again at once."""
        self._others_until = time.monotonic() + _KNOWN

    def stored(self, began: float, *, others: bool) -> None:
        """A batch is stored; `others`: it had to read what another replica wrote."""
        now = time.monotonic()
        took = now - began
        if others:
            self._others_until = now + _KNOWN
        aside = max(_READ_AND_WRITE * took, _LEAST)
        if began - self._ended >= aside:  # the others had their time before it
            self._busy_since = began
        if now < self._others_until or now - self._busy_since > _PROBING:
            self._resume = self._busy_since = now + aside
        self._ended = now


class FairnessById:
    """By id, for the aggregates used last."""

    def __init__(self) -> None:
        self._fairness: dict[str, Fairness] = {}

    def __getitem__(self, aggregate_id: str) -> Fairness:
        fairness = self._fairness.pop(aggregate_id, None) or Fairness()
        self._fairness[aggregate_id] = fairness
        if len(self._fairness) > _REMEMBERED:
            del self._fairness[next(iter(self._fairness))]
        return fairness
