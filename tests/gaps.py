"""The longest time without anything new."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple


class Gap(NamedTuple):
    """From one time to the next one, in seconds of the same clock."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def longest_gap(times: Iterable[float], since: float, until: float = math.inf) -> Gap:
    """The longest one from `since` to the last of the times, which are in order, before `until`.

    Raises ValueError if there is no such time.
    """
    within = [since, *(each for each in times if since < each < until)]
    return max((Gap(*pair) for pair in pairwise(within)), key=lambda gap: gap.seconds)
