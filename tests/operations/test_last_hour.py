"""The points of the charts, and who is late since when."""

from dataclasses import replace

from pipeline.operations.status.last_hour import LastHour, Point, Stage
from pipeline.operations.status.lateness import Furthest, Lateness, alarm
from pipeline.operations.status.partitions import PartitionStatus
from pipeline.support.logs import moment

QUIET = PartitionStatus(0, "w1", 1, 10, 0, 0.0, None, None, 0)
NOW = 1_800_000_000


def point(rate: float | None, *partitions: float | None) -> Point:
    lag = max((each for each in partitions if each is not None), default=None)
    stage = Stage(rate)
    return Point(stage, stage, Stage(rate, 0.0), {"balance": Stage(rate, lag, partitions)})


def test_a_point_has_the_greatest_lag_of_its_ten_seconds() -> None:
    hour = LastHour()
    assert hour.since() is None
    hour.note(NOW, point(1.0, 0.0, 4.0))
    hour.note(NOW + 9.9, point(2.0, 1.0, None))
    assert hour.since() is None  # it may still change
    hour.note(NOW + 10, point(3.0, 0.0, 0.0))
    found = hour.since()
    assert found is not None
    assert (found.at, found.commands, found.projected["balance"].rate) == ([NOW], [2.0], [2.0])
    assert found.projected["balance"].lag_seconds == [4.0]
    assert hour.partitions("balance").lag_seconds == [[1.0], [4.0]]
    assert hour.since(NOW) is None


def test_it_grows_by_what_is_new_and_keeps_an_hour() -> None:
    hour = LastHour()
    for number in range(500):
        hour.note(NOW + 10 * number, point(None, *[float(number)] * (1 if number < 499 else 2)))
    whole = hour.since()
    assert whole is not None
    assert len(whole.at) == 360
    assert whole.at[-1] - whole.at[0] == 3590
    assert whole.stored == [None] * 360
    grown = hour.since(whole.at[-3])
    assert grown is not None
    assert grown.at == whole.at[-2:]
    hour.note(NOW + 5000, point(None, 0.0))
    ones, twos = hour.partitions("balance").lag_seconds  # there were more partitions for a while
    assert (ones[-1], twos[-2:]) == (499.0, [None, 499.0])
    assert hour.partitions("another").lag_seconds == []


def test_the_furthest_partition_is_told_and_since_when() -> None:
    lateness = Lateness()

    def furthest(now: float, *lags: float | None) -> Furthest | None:
        partitions = [replace(QUIET, partition=p, lag_seconds=each) for p, each in enumerate(lags)]
        return lateness.furthest(partitions, now)

    assert furthest(NOW, 0.0, None) is None
    assert furthest(NOW, 0.0, 1.5) == Furthest(1, 1.5, None)
    assert furthest(NOW + 10, 7.0, 6.0) == Furthest(0, 7.0, moment(NOW + 8))
    # It reads on, so that its oldest event is another one; it is late since then all the same.
    assert furthest(NOW + 20, 6.0, 9.0) == Furthest(1, 9.0, moment(NOW + 9))
    assert furthest(NOW + 30, 6.0, 1.0) == Furthest(0, 6.0, moment(NOW + 8))
    assert furthest(NOW + 40, 1.0, 0.0) == Furthest(0, 1.0, None)
    assert furthest(NOW + 50, 5.0) == Furthest(0, 5.0, moment(NOW + 50))


def test_amber_and_red() -> None:
    found = [alarm(each) for each in (None, 0.0, 4.9, 5.0, 29.0, 30.0, 1e6)]
    assert found == [None, None, None, "amber", "amber", "red", "red"]
