"""When a replica stands aside at an account; the clock is the test's."""

from types import SimpleNamespace

import pytest

from pipeline.commands.fairness import Fairness, FairnessById


class Clock:
    """Seconds since some time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def batch(self, fairness: Fairness, seconds: float = 0.03, *, others: bool = False) -> None:
        began = self.now
        self.now += seconds
        fairness.stored(began, others=others)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(
        "pipeline.commands.fairness.time", SimpleNamespace(monotonic=lambda: clock.now)
    )
    return clock


def test_who_is_alone_and_not_busy_never_waits(clock: Clock) -> None:
    fairness = Fairness()
    for _ in range(100):
        clock.batch(fairness)
        assert fairness.pause() == 0
        clock.now += 0.06


@pytest.mark.parametrize("pause", [0.0, 0.03])
def test_who_is_busy_asks_now_and_then_whether_anybody_is_there(clock: Clock, pause: float) -> None:
    """Pauses in which nobody could read and write are as good as none."""
    fairness, waits = Fairness(), list[float]()
    for _ in range(100):
        clock.batch(fairness)
        if wait := fairness.pause():
            waits.append(wait)
            clock.now += wait
        else:
            clock.now += pause
    assert waits == [pytest.approx(0.06)] * len(waits)
    assert len(waits) == pytest.approx((clock.now - 1000) / 0.57, abs=1), "twice a second"


@pytest.mark.parametrize("how", ["lost", "read"])
def test_while_others_are_known_they_get_a_turn_after_each_row(clock: Clock, how: str) -> None:
    fairness = Fairness()
    if how == "lost":
        fairness.conflicted()
        assert fairness.pause() == 0, "who lost tries again at once"
    clock.batch(fairness, others=how == "read")
    assert fairness.pause() == pytest.approx(0.06)
    clock.batch(fairness, 0.001)
    assert fairness.pause() == pytest.approx(0.02), "a transfer takes so long"
    clock.now += 1.1
    clock.batch(fairness)
    assert fairness.pause() == 0, "they have gone"


def test_turns_are_kept_for_the_accounts_used_last(clock: Clock) -> None:
    every = FairnessById()
    first = every["first"]
    for number in range(999):
        assert every["first"] is first
        every[str(number)]
    assert every["first"] is first
    for number in range(1000, 2000):
        every[str(number)]
    assert every["first"] is not first
