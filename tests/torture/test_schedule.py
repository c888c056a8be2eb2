"""The schedule is a pure function of seed, minutes and names."""

from itertools import pairwise

import pytest

from tests.torture.faults import CLUSTER_FAULTS, FAULTS
from tests.torture.schedule import CALM, schedule

NAMES = sorted(FAULTS)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_seed_gives_the_same_schedule(seed: int) -> None:
    steps = schedule(seed, 3, NAMES)
    assert steps == schedule(seed, 3, NAMES)
    assert steps == schedule(seed, 3, list(reversed(NAMES)) + NAMES)
    assert steps != schedule(seed + 1, 3, NAMES)


@pytest.mark.parametrize("seed", range(20))
def test_steps_are_in_order_and_end_in_time(seed: int) -> None:
    steps = schedule(seed, 3, NAMES)
    assert all(0 < step.begin < step.end <= 180 for step in steps)
    assert all(one.begin < other.begin for one, other in pairwise(steps))
    assert {step.fault for step in steps} <= set(NAMES)


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    short, long = schedule(7, 1, NAMES), schedule(7, 5, NAMES)
    assert short == long[: len(short)]


def test_every_fault_comes_before_any_comes_again() -> None:
    steps = schedule(7, 30, NAMES)
    assert sorted(step.fault for step in steps[: len(NAMES)]) == NAMES
    assert len(steps) > len(NAMES)


def test_no_fault_is_no_schedule() -> None:
    assert schedule(7, 3, []) == []


def test_a_calm_schedule_has_longer_faults_with_longer_gaps() -> None:
    steps = schedule(7, 30, list(CLUSTER_FAULTS), CALM)
    assert sorted({step.fault for step in steps}) == sorted(CLUSTER_FAULTS)
    assert min(step.end - step.begin for step in steps) >= 2.9
    assert min(other.begin - one.begin for one, other in pairwise(steps)) >= 2.9
