"""Our own maker of ULIDs makes what every reader of ULIDs takes."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from ulid import ULID

from pipeline.model.events import ACCOUNT_ID
from pipeline.model.ulids import new_ulid


def test_it_is_a_ulid_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = new_ulid()
    after = time.time_ns() // 1_000_000
    assert re.fullmatch(ACCOUNT_ID, made)
    read = ULID.from_str(made)
    assert str(read) == made
    assert before <= read.milliseconds <= after


def test_they_follow_one_another() -> None:
    made = [new_ulid() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_no_two_threads_make_the_same_one() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: [new_ulid() for _ in range(2000)], range(8)))
    assert len({each for some in made for each in some}) == 16_000
    assert all(some == sorted(some) for some in made)


def test_another_millisecond_has_other_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", iter(range(10**18, 10**19, 10**6)).__next__)
    assert len({new_ulid()[10:] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("milliseconds", "chance"), [(0, bytes(10)), (2**48 - 1, b"\xff" * 10), (1, bytes(range(10)))]
)
def test_each_bit_has_its_place(
    milliseconds: int, chance: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: milliseconds * 1_000_000)
    monkeypatch.setattr("os.urandom", lambda _: chance)
    assert new_ulid() == str(ULID.from_bytes(milliseconds.to_bytes(6) + chance))
