"""Documents in doubt are compared again until none is left, or the patience is over."""

import asyncio

import pytest

from pipeline.operations import recheck
from pipeline.operations.recheck import Patience, caught_up, chunks, rounds


async def test_without_patience_there_is_one_round_and_it_is_the_last() -> None:
    doubts = {"a": None, "b": None}
    assert [each async for each in rounds(doubts, Patience(0))] == [(["a", "b"], True)]


async def test_it_ends_when_nothing_is_in_doubt() -> None:
    doubts, seen = {"a": None, "b": None}, list[list[str]]()
    async for ids, last in rounds(doubts, Patience(60)):
        assert not last
        seen.append(ids)
        del doubts[ids[0]]
    assert seen == [["a", "b"], ["b"]]


async def test_the_last_round_comes_when_the_patience_is_over() -> None:
    flags = [last async for _, last in rounds({"a": None}, Patience(0.25))]
    assert flags == [*[False] * (len(flags) - 1), True]
    assert len(flags) > 2


async def test_only_time_in_rounds_counts() -> None:
    patience, doubts = Patience(60), {"a": None}
    async for _ in rounds(doubts, patience):
        doubts.clear()
    await asyncio.sleep(0.05)
    assert patience.left == 60


async def test_all_are_read_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recheck, "CHUNK", 2)
    found = [ids async for ids, _ in rounds(dict.fromkeys("abcde"), Patience(0))]
    assert found == [["a", "b"], ["c", "d"], ["e"]]
    assert [*chunks("abc", 3)] == [["a", "b", "c"]]


def test_a_document_follows_when_it_has_come_to_what_was_newest_before() -> None:
    assert caught_up(7, before=7)
    assert not caught_up(6, before=7)
    assert not caught_up(0, before=0), "compared for the first time"
