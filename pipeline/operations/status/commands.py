"""What the account services were asked to do, and how long they took, from their own counters."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pipeline.support.metrics import SECONDS

WINDOW: Final = 60.0
_STEP: Final = 5.0
_NO_SERVICE: Final = "no account service has answered in the last minute"


@dataclass(frozen=True, slots=True)
class Commands:
    """`rate`: commands a second. Of the last minute: `outcomes`, how many commands were `accepted`,
    `replayed`, or answered with a problem, by its name; `p50_ms` and `p99_ms`, how long half and 99
    of 100 of them took at most, None if there was none."""

    rate: float | None
    outcomes: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    unknown: str | None


class Totals(NamedTuple):
    """Since the start of an instance: commands by outcome, and how many took at most as long as
    each of `SECONDS`, and how many there were."""

    outcomes: dict[str, float]
    durations: Sequence[float]


class LastMinute:
    """What the totals of one instance rose by."""

    def __init__(self) -> None:
        self._totals: deque[tuple[float, Totals]] = deque()
        self._last: tuple[float, Totals] | None = None

    def note(self, at: float, totals: Totals) -> None:
        """Its totals `at` a time of some clock."""
        self._last = at, totals
        if not self._totals or at - self._totals[-1][0] >= _STEP:
            self._totals.append(self._last)

    def risen(self, now: float) -> Totals | None:
        """None if it has not answered in the last minute."""
        while self._totals and self._totals[0][0] < now - WINDOW:
            self._totals.popleft()
        if self._last is None or self._last[0] < now - WINDOW:
            return None
        (_, before), (_, after) = self._totals[0] if self._totals else self._last, self._last
        return Totals(
            {name: most - before.outcomes.get(name, 0) for name, most in after.outcomes.items()},
            [most - least for least, most in zip(before.durations, after.durations, strict=False)],
        )


def commands(
    minutes: Iterable[Totals | None], rates: Iterable[float | None], unknown: str | None
) -> Commands:
    """Those of all account services together. `unknown`: why nobody could be asked."""
    known = [each for each in minutes if each is not None]
    outcomes = Counter[str]()
    for each in known:
        outcomes.update({name: round(risen) for name, risen in each.outcomes.items() if risen > 0})
    durations = [sum(each) for each in zip(*(each.durations for each in known), strict=False)]
    measured = [each for each in rates if each is not None]
    unknown = unknown or (None if known else _NO_SERVICE)
    return Commands(
        round(sum(measured), 1) if measured and not unknown else None,
        dict(outcomes.most_common()),
        _milliseconds(durations, 0.5),
        _milliseconds(durations, 0.99),
        unknown,
    )


def _milliseconds(durations: Sequence[float], part: float) -> float | None:
    """The time in which that part of all was done, as Prometheus reckons it: evenly within a
    bucket, and the last bound for what took longer."""
    if not durations or durations[-1] <= 0:
        return None
    wanted = part * durations[-1]
    lower, below = 0.0, 0.0
    for bound, number in zip((*SECONDS, math.inf), durations, strict=False):
        if number >= wanted:
            if math.isinf(bound):
                break
            share = (wanted - below) / (number - below) if number > below else 1.0
            return round(1000 * (lower + (bound - lower) * share), 1)
        lower, below = bound, number
    return 1000.0 * lower
