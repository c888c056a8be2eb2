"""Lag and rates of the last hour, a point for each ten seconds, in memory: what the charts show.

Of the readings within ten seconds a point has the greatest lag and the last rates. Nothing is
stored: a service that starts knows nothing of what was before.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, NamedTuple

STEP: Final = 10
"""Seconds from one point to the next."""
_POINTS: Final = 3600 // STEP

Figures = list[float | None]


@dataclass(frozen=True, slots=True)
class Course:
    """Of one stage, point by point: events a second, and seconds behind; None is unknown."""

    rate: Figures
    lag_seconds: Figures


@dataclass(frozen=True, slots=True)
class Hour:
    """Columns of equal length, the oldest point first. `at`: seconds since 1970 at which each
    point begins; `commands` and `stored`: so many a second."""

    at: list[int]
    commands: Figures
    stored: Figures
    forwarded: Course
    projected: dict[str, Course]


@dataclass(frozen=True, slots=True)
class PartitionsHour:
    """The same of the partitions of a projection: seconds behind, by partition."""

    at: list[int]
    lag_seconds: list[Figures]


class Stage(NamedTuple):
    """What a reading says of a stage. `partitions`: the lag of each."""

    rate: float | None
    lag: float | None = None
    partitions: tuple[float | None, ...] = ()

    def after(self, before: "Stage") -> "Stage":
        """Together with what an earlier reading said."""
        partitions = zip_longest(before.partitions, self.partitions)
        return Stage(
            self.rate,
            _greater(before.lag, self.lag),
            tuple(_greater(one, other) for one, other in partitions),
        )


class Point(NamedTuple):
    """What a reading says: of commands, of the store, of the forwarder, of each projection."""

    commands: Stage
    stored: Stage
    forwarded: Stage
    projected: Mapping[str, Stage]


EMPTY: Final = Hour([], [], [], Course([], []), {})
_NOTHING: Final = Stage(None)


class LastHour:
    """The points of an hour, of which the last one may still change."""

    def __init__(self) -> None:
        self._points: deque[tuple[int, Point]] = deque(maxlen=_POINTS + 1)

    def note(self, now: float, point: Point) -> None:
        """A reading, at seconds since 1970."""
        at = int(now) // STEP * STEP
        if self._points and self._points[-1][0] >= at:
            at, before = self._points.pop()
            point = _after(point, before)
        self._points.append((at, point))

    def since(self, after: int = 0) -> Hour | None:
        """The whole points later than that one; None if there are none."""
        found = [each for each in list(self._points)[:-1] if each[0] > after]
        if not found:
            return None
        points = [point for _, point in found]
        names = dict.fromkeys(name for each in points for name in each.projected)
        return Hour(
            [at for at, _ in found],
            [each.commands.rate for each in points],
            [each.stored.rate for each in points],
            _course([each.forwarded for each in points]),
            {
                name: _course([each.projected.get(name, _NOTHING) for each in points])
                for name in names
            },
        )

    def partitions(self, projection: str) -> PartitionsHour:
        """The whole points of a projection's partitions."""
        found = list(self._points)[:-1]
        rows = [point.projected.get(projection, _NOTHING).partitions for _, point in found]
        return PartitionsHour([at for at, _ in found], [list(each) for each in zip_longest(*rows)])


def _after(point: Point, before: Point) -> Point:
    return Point(
        point.commands.after(before.commands),
        point.stored.after(before.stored),
        point.forwarded.after(before.forwarded),
        {
            name: stage.after(before.projected.get(name, _NOTHING))
            for name, stage in point.projected.items()
        },
    )


def _course(stages: Sequence[Stage]) -> Course:
    return Course([each.rate for each in stages], [each.lag for each in stages])


def _greater(one: float | None, other: float | None) -> float | None:
    return max((each for each in (one, other) if each is not None), default=None)
