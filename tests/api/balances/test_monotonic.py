"""What a route has shown it does not take back."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace

import pytest

from api.balances import monotonic
from api.balances.monotonic import MonotonicReads, Versions
from pipeline.eventstore import StoreUnavailable
from pipeline.search import ProjectionUnavailable

Read = Callable[[], Awaitable[Versions]]


def answers(*those: Versions) -> Read:
    """One after the other; the last one again and again."""
    left = list(those)

    async def read() -> Versions:
        return left.pop(0) if len(left) > 1 else left[0]

    return read


def of(heads: Mapping[str, int]) -> MonotonicReads:
    async def head(account: str) -> int:
        return heads[account]

    return MonotonicReads(head)


async def shown(reads: MonotonicReads, read: Read) -> Versions:
    return await reads.get(read, lambda found: found)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monotonic, "PATIENCE", 0.1)


async def test_an_answer_that_falls_back_is_asked_for_again() -> None:
    reads = of({"a": 24, "b": 1})
    assert await shown(reads, answers({"a": 24, "b": 1})) == {"a": 24, "b": 1}
    assert await shown(reads, answers({"a": 21, "b": 1}, {"a": 22}, {"a": 25})) == {"a": 25}


async def test_nor_does_an_account_go_missing() -> None:
    reads = of({"a": 24})
    await shown(reads, answers({"a": 24}))
    assert await shown(reads, answers({"a": 0}, {"a": 24})) == {"a": 24}


async def test_what_was_never_there_may_stay_away() -> None:
    reads = of({})
    for _ in range(2):
        assert await shown(reads, answers({"a": 0})) == {"a": 0}


async def test_a_read_that_stays_behind_fails(impatient: None) -> None:
    reads = of({"a": 24})
    await shown(reads, answers({"a": 24}))
    for _ in range(2):
        with pytest.raises(ProjectionUnavailable):
            await shown(reads, answers({"a": 21}))


async def test_it_ends_with_the_first_answer_that_is_not_behind(impatient: None) -> None:
    """As of a document that was lowered by hand and is repaired."""
    reads = of({"a": 24})
    await shown(reads, answers({"a": 24}))
    with pytest.raises(ProjectionUnavailable):
        await shown(reads, answers({"a": 21}))
    assert await shown(reads, answers({"a": 24})) == {"a": 24}


async def test_it_does_when_the_event_store_is_away(impatient: None) -> None:
    async def away(_: str) -> int:
        raise StoreUnavailable("away")

    reads = MonotonicReads(away)
    await shown(reads, answers({"a": 24}))
    with pytest.raises(ProjectionUnavailable):
        await shown(reads, answers({"a": 21}))


async def test_what_was_never_true_is_taken_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody had changed the document, and it was repaired."""
    monkeypatch.setattr(monotonic, "PATIENCE", 0.0)
    reads = of({"a": 21})
    await shown(reads, answers({"a": 2400}))
    assert await shown(reads, answers({"a": 21})) == {"a": 21}


async def test_what_was_shown_long_ago_or_before_many_others_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    now = 0.0
    monkeypatch.setattr(monotonic, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(monotonic, "MOST", 2)
    reads = of({"a": 9, "b": 9, "c": 9})
    for account in ("a", "b", "c"):
        await shown(reads, answers({account: 9}))
    assert await shown(reads, answers({"a": 8})) == {"a": 8}
    now += monotonic.KEPT_SECONDS
    assert await shown(reads, answers({"c": 8})) == {"c": 8}


async def test_a_document_without_a_version_is_shown_as_it_is() -> None:
    reads = of({"a": 24})
    await shown(reads, answers({"a": 24}))
    assert await shown(reads, answers({"a": None})) == {"a": None}


async def test_an_event_store_that_hangs_is_asked_for_all_at_once(
    impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monotonic, "_CHECK_SECONDS", 0.1)
    asked: list[str] = []

    async def hanging(account: str) -> int:
        asked.append(account)
        await asyncio.Event().wait()
        return 0

    reads, accounts = MonotonicReads(hanging), [f"a{number}" for number in range(100)]
    await shown(reads, answers(dict.fromkeys(accounts, 24)))
    async with asyncio.timeout(30):
        with pytest.raises(ProjectionUnavailable):
            await shown(reads, answers(dict.fromkeys(accounts, 21)))
    assert sorted(asked) == sorted(accounts)


async def test_the_time_begins_with_the_first_answer(impatient: None) -> None:
    """A read may have waited for a version before it."""
    reads, late = of({"a": 24}), answers({"a": 21}, {"a": 24})
    await shown(reads, answers({"a": 24}))

    async def read() -> Versions:
        await asyncio.sleep(2 * monotonic.PATIENCE)
        return await late()

    assert await shown(reads, read) == {"a": 24}
