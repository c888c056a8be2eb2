"""Rounds: what is compared takes turns, so that a machine that slows down slows all of it down."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")

Measure = Callable[[], Awaitable[float]]
"""Does its work once; returns what came of it, such as events a second."""


async def interleaved(
    measures: Mapping[K, Callable[[], Awaitable[T]]], rounds: int, uncounted: int = 1
) -> dict[K, list[T]]:
    """What each measure returned, round by round; those that come first and do not count are left
    out.

    Every other round goes backwards, so that none always follows the same one.
    """
    values: dict[K, list[T]] = {name: [] for name in measures}
    for turn in range(rounds + uncounted):
        order = list(measures) if turn % 2 else list(measures)[::-1]
        for name in order:
            value = await measures[name]()
            if turn >= uncounted:
                values[name].append(value)
    return values
