"""One timeline of several services: each change is told once, whoever looks how often."""

import logging
import time
from typing import Any, Final

import pytest

from pipeline.operations.local_timeline import OF_EACH_KIND, WAITING, LocalTimeline
from pipeline.operations.timeline import Line
from pipeline.support.logs import moment
from tests.operations.test_happenings import BALANCE, ROLE, SERVER, reading

BEGIN: Final = time.time() - 86_400
DOWN: Final[dict[str, Any]] = {"servers": [{**SERVER, "up": False}]}


def at(second: float, *owners: str | None, **changes: Any) -> dict[str, Any]:
    return {**reading(0, *owners, **changes), "at": moment(BEGIN + second)}


def parked(count: int) -> dict[str, Any]:
    return {"projected": [{**BALANCE, "parked": count}]}


class Service(LocalTimeline):
    """A service, and how far it has read the stream."""

    def __init__(self, stream: list[Line], name: str = "") -> None:
        super().__init__(name)
        self.stream, self.read = stream, 0

    def reads_on(self) -> None:
        for line in self.stream[self.read :]:
            self.remember(line)
        self.read = len(self.stream)
        self.rebase()

    def looks(
        self, second: float, *owners: str | None, online: bool = True, **changes: Any
    ) -> None:
        self.note(at(second, *owners, **changes))
        if online:
            self.exchanges()

    def exchanges(self) -> None:
        self.reads_on()
        while self.waiting:
            self.stream.append(self.waiting[0])
            self.reads_on()


def told(stream: list[Line]) -> list[tuple[float, str]]:
    """Seconds and sentences, in the order in which they are stored."""
    seconds = {moment(BEGIN + number / 2): number / 2 for number in range(20_000)}
    lines = [each.change.happening for each in stream]
    return [(seconds[each.at], each.what) for each in lines]


@pytest.fixture
def stream() -> list[Line]:
    return []


@pytest.fixture
def one(stream: list[Line]) -> Service:
    return Service(stream)


@pytest.fixture
def other(stream: list[Line]) -> Service:
    return Service(stream)


def test_who_looks_less_often_tells_nothing_again(
    stream: list[Line], one: Service, other: Service
) -> None:
    for each in (one, other):
        each.looks(0, "w1", "w1", **parked(0))
    one.looks(1, None, None, **parked(1), **DOWN)
    one.looks(2, "w2", None, **parked(3), **DOWN)
    other.looks(2.5, "w2", None, **parked(3), servers=[{**SERVER, "up": False, "state": "silent"}])
    one.looks(3, "w2", "w2", **parked(3), **DOWN)
    other.looks(10, "w2", "w2", **parked(2))
    one.looks(10.5, "w2", "w2", **parked(2))
    assert told(stream) == [
        (1, "NATS is down."),
        (1, "No worker owns partitions 0, 1 any more."),
        (1, "1 account is parked in balance; 0 before."),
        (2, "w2 owns partition 0 now."),
        (2, "3 accounts are parked in balance; 1 before."),
        (3, "w2 owns partition 1 now."),
        (10, "NATS answers again."),
        (10, "2 accounts are parked in balance; 3 before."),
    ]
    assert one.all() == other.all()


def test_who_loses_a_race_compares_again(stream: list[Line], one: Service, other: Service) -> None:
    for each in (one, other):
        each.looks(0, **parked(0))
    other.looks(1.5, **parked(3), online=False)
    assert [each.change.happening.what[:10] for each in other.waiting] == ["3 accounts"]
    one.looks(1, **parked(1))
    other.exchanges()
    assert [what for _, what in told(stream)] == [
        "1 account is parked in balance; 0 before.",
        "3 accounts are parked in balance; 1 before.",
    ]


def test_outages_that_only_one_has_seen_lose_none_of_those_of_both(
    stream: list[Line], one: Service, other: Service
) -> None:
    for second in range(50):
        away = DOWN if second in range(28, 39) or second in range(44, 47) else {}
        if second % 10 == 9:
            one.looks(second, **away)
        other.looks(second + 0.5, **away)
    assert told(stream) == [
        *((28.5, "NATS is down."), (39, "NATS answers again.")),
        *((44.5, "NATS is down."), (47.5, "NATS answers again.")),
    ]


def test_an_outage_that_ended_while_nobody_looked_gets_its_end_however_late_the_stream_comes(
    stream: list[Line], one: Service
) -> None:
    one.looks(0)
    one.looks(1, **DOWN)
    for after in (Service(stream), Service(stream)):
        after.looks(900, online=False)
        after.looks(910, online=False)
        assert after.all() == []
        after.exchanges()
    assert told(stream) == [(1, "NATS is down."), (910, "NATS answers again.")]
    assert stream[-1].change.happening.seconds == 909


def test_a_part_of_the_stream_is_not_taken_for_all(
    stream: list[Line], one: Service, other: Service
) -> None:
    one.looks(0)
    one.looks(1, **DOWN)
    one.looks(300)
    other.remember(stream[0])
    other.looks(900, online=False)
    assert not other.waiting
    other.read = 1
    other.exchanges()
    assert told(stream) == [(1, "NATS is down."), (300, "NATS answers again.")]


def test_what_waits_is_told_only_where_it_is_news(
    stream: list[Line], one: Service, other: Service
) -> None:
    for each in (one, other):
        each.looks(0, "w1")
    one.looks(2, "w1", **DOWN)
    one.looks(4, "w1", **DOWN, **parked(1))
    other.looks(2.5, "w1", **DOWN, online=False)  # told by the other one
    other.looks(3, "w2", **DOWN, online=False)  # news
    other.looks(3.5, "w2", **DOWN, **parked(2), online=False)  # there is something newer
    other.looks(5, "w2", **parked(1), online=False)
    other.exchanges()
    assert told(stream) == [
        *((2, "NATS is down."), (4, "1 account is parked in balance; 0 before.")),
        *((3, "w2 owns partition 0 now."), (5, "NATS answers again.")),
    ]


def test_older_knowledge_contradicts_nobody(
    stream: list[Line], one: Service, other: Service
) -> None:
    for each in (one, other):
        each.looks(0)
    one.looks(5)
    other.looks(4.5, **DOWN)
    one.looks(6)  # it may be late with what it sees
    other.looks(6.5, **DOWN)
    one.looks(10, **DOWN)
    assert told(stream) == [(4.5, "NATS is down.")]
    other.looks(11)
    one.looks(11.5, **DOWN)
    one.looks(60, **DOWN)
    assert told(stream)[1:] == [(11, "NATS answers again.")]
    one.looks(72, **DOWN)  # so long it is not for being late: it can't reach that server itself
    assert told(stream)[2:] == [(72, "NATS is down.")]


def test_a_clock_that_is_ahead_does_not_silence_the_others(
    stream: list[Line], one: Service, other: Service
) -> None:
    other.looks(0)
    one.looks(2 * 86_400, **DOWN)
    other.looks(1)
    assert other._known.fact(("server", "nats")) is not None
    assert other._known.fact(("server", "nats"))[1] <= moment(time.time())  # type: ignore[index]


def test_a_flood_of_one_kind_displaces_no_other(stream: list[Line], one: Service) -> None:
    one.looks(0)
    one.looks(1, **DOWN)
    for number in range(OF_EACH_KIND + 5):
        one.looks(2 + number, **DOWN, instances=[{**ROLE, "name": f"a{number}"}])
    kinds = [each.kind for each in one.all()]
    assert kinds == ["role"] * OF_EACH_KIND + ["server"]


def test_that_lines_are_lost_is_logged_once(one: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(WAITING + 9):
            one.looks(number, **(DOWN if number % 2 else {}), online=False)
    assert len(one.waiting) == WAITING
    assert len(caplog.records) == 1
    one.exchanges()
    assert not one.waiting


def test_each_start_of_a_service_is_told_by_itself() -> None:
    stream: list[Line] = []
    for second in (0, 10):
        life = Service(stream, "host-1")
        life.looks(second)
        life.looks(second + 1)
    offline = Service(stream, "host-2")
    offline.looks(20, online=False)
    offline.looks(21)
    starts = [(0, "balances host-1"), (10, "balances host-1"), (20, "balances host-2")]
    assert told(stream) == [(second, f"{name} has started.") for second, name in starts]
