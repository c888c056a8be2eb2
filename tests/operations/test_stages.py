"""When an event passed each stage, and the figures of many."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import AsyncMock

import pytest
from ulid import ULID

from pipeline.banking.balance import BALANCE
from pipeline.messaging import JetStream
from pipeline.messaging.notifications import WrittenBatch, batch_in
from pipeline.operations.trace.log_position import Logged
from pipeline.operations.trace.stages import StageTimes, figures, stage_times, stages, unless_parked
from pipeline.operations.trace.written import KEPT_SECONDS, MOST, WrittenBatches

NOW: Final = datetime(2026, 11, 27, 14, tzinfo=UTC)
AT: Final = NOW.timestamp()


class Clock:
    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def written(clock: Clock) -> WrittenBatches:
    return WrittenBatches(clock)


def batch(first: int, last: int, after: float = 0.0) -> WrittenBatch:
    return WrittenBatch(first, last, AT + after, AT + after + 0.01)


def test_a_message_is_found_in_the_batch_that_was_written_first(
    written: WrittenBatches, clock: Clock
) -> None:
    written.note(3, 8, batch(1, 10))
    written.note(3, 8, batch(15, 20))
    clock.now += 5
    written.note(3, 8, batch(5, 18, after=5))  # delivered again
    written.note(3, 8, batch(19, 30, after=5))
    found = {number: written.of(3, number) for number in (1, 10, 12, 16, 20, 25, 31)}
    assert {number: each and each.seen - AT for number, each in found.items()} == {
        **{1: 0, 10: 0, 12: 5, 16: 0},
        **{20: 0, 25: 5, 31: None},
    }
    assert written.of(4, 1) is None


def test_batches_are_forgotten(written: WrittenBatches, clock: Clock) -> None:
    for number in range(1, MOST + 100):
        written.note(0, 1, batch(number, number))
    assert written.of(0, 50) is None
    assert written.of(0, 500)
    clock.now += KEPT_SECONDS + 1
    written.note(0, 1, batch(MOST + 100, MOST + 100))
    assert written.of(0, 500) is None
    assert written.of(0, MOST + 100)


async def test_it_is_known_from_when_on_all_of_a_partition_is_noted(
    written: WrittenBatches, clock: Clock
) -> None:
    assert written.complete_since(0) is None
    heard = SimpleNamespace(nc=SimpleNamespace(subscribe=AsyncMock()))
    await written.listen(cast(JetStream, heard), BALANCE)
    assert written.complete_since(0) == AT
    for number in range(1, MOST // 8 + 3):
        clock.now += 0.1
        written.note(0, 8, batch(number, number))
    assert written.of(0, 2) is None
    assert written.complete_since(0) == pytest.approx(AT + 0.2)
    assert written.complete_since(1) == AT
    clock.now += KEPT_SECONDS
    assert written.complete_since(0) == written.complete_since(1) == clock.now - KEPT_SECONDS


def test_batches_of_a_stream_that_was_made_anew_are_noted(
    written: WrittenBatches, clock: Clock
) -> None:
    written.note(0, 1, batch(1, 1000))
    clock.now += KEPT_SECONDS + 1
    assert written.of(0, 1) is None
    written.note(0, 1, batch(1, 1, after=KEPT_SECONDS + 1))
    found = written.of(0, 1)
    assert found is not None
    assert found.seen == clock.now


def test_a_batch_of_an_earlier_stream_is_not_that_of_its_sequences_in_this_one(
    written: WrittenBatches, clock: Clock
) -> None:
    written.note(0, 1, batch(1, 1000))
    clock.now += 60
    assert written.of(0, 7, stored=AT + 59) is None
    written.note(0, 1, batch(1, 8, after=60))
    written.note(0, 1, batch(9, 12, after=61))
    new, later = written.of(0, 7, stored=AT + 59), written.of(0, 12, stored=AT + 60)
    assert new is not None
    assert later is not None
    assert (new.seen, new.batch.last, later.batch.last) == (clock.now, 8, 12)
    assert written.of(0, 13, stored=AT + 60) is None
    old = written.of(0, 13, stored=AT - 1)
    assert old is not None
    assert old.batch.last == 1000


@pytest.mark.parametrize(
    "data", [b"", b"[1,2,3]", b'["1",2,3,{}]', b"[1,2,1e300,1]", b"[1,2,NaN,1]"]
)
def test_a_notification_may_say_nothing_of_its_batch(data: bytes) -> None:
    assert batch_in(data) is None


def test_what_is_parked_was_not_written() -> None:
    times = StageTimes(decided=AT, forwarded=AT, delivered=AT, written=AT, visible=AT)
    assert unless_parked(times, 3, None) == unless_parked(times, 3, 4) == times
    waits = unless_parked(times, 4, 4)
    assert (waits.delivered, waits.written, waits.visible) == (AT, None, None)
    assert unless_parked(times, 5, 4) == waits


def test_the_stages_of_an_event(written: WrittenBatches, clock: Clock) -> None:
    event: dict[str, Any] = {
        "correlation_id": str(ULID.from_datetime(NOW)),
        "created_at": "2026-11-27T14:00:00.002Z",
    }
    message = Logged("balance.3", 7, "2026-11-27T14:00:00.012345678Z")
    found = {
        each["stage"]: each["milliseconds"] for each in stages(stage_times(event, message, written))
    }
    assert found == {
        **{"received": None, "decided": 2.0, "forwarded": 10.3},
        **{"delivered": None, "written": None, "visible": None},
    }
    written.note(3, 8, batch(7, 7, after=0.02))
    clock.now += 0.04
    event["correlation_id"] = "order 66"
    times = stage_times({**event, "created_at": datetime(2026, 11, 27, 14)}, message, written)
    assert [each["milliseconds"] for each in stages(times)] == [None, None, 12.3, 7.7, 10.0, -30.0]
    assert stage_times({"created_at": "once"}, None, written) == StageTimes()


def test_the_figures_of_many_events() -> None:
    some = [StageTimes(AT, AT + number / 1000, None, AT, AT, AT + 2) for number in range(100)]
    found = {each.stage: (each.events, each.p50, each.p99) for each in figures(some)}
    assert found == {
        "decided": (100, 50.0, 99.0),
        "forwarded": (0, None, None),
        "delivered": (0, None, None),
        "written": (100, 0.0, 0.0),
        "visible": (100, 2000.0, 2000.0),
        "whole": (100, 2000.0, 2000.0),
    }
    assert {each.events for each in figures([])} == {0}
