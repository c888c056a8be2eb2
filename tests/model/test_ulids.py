"""Ids: valid ULIDs of the present time, unique, in order of time."""

import time

import pytest
from ulid import ULID

from pipeline.model.ulids import new_ulid


def test_an_id_is_a_ulid_of_the_present_time() -> None:
    before = time.time_ns() // 1_000_000
    made = new_ulid()
    assert before <= ULID.from_str(made).milliseconds <= time.time_ns() // 1_000_000
    assert str(ULID.from_str(made)) == made


def test_ids_of_one_millisecond_share_only_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    made = {new_ulid() for _ in range(1000)}
    assert len(made) == 1000
    assert {each[:10] for each in made} == {"01HF7YAT00"}
    assert all(len({each[at] for each in made}) > 16 for at in range(10, 26))


def test_a_later_id_sorts_after_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_700_000_000_000_000_000, 1_800_000_000_000_000_000, 10**12))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    made = [new_ulid() for _ in range(1000)]
    assert made == sorted(made)
