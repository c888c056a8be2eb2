"""Shared transactions whose outcome is late or unknown; the server's answers are the test's."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pymongo.errors import AutoReconnect, OperationFailure
from ulid import ULID

from pipeline.banking.events import DEPOSITED, WITHDRAWN
from pipeline.eventstore import StoreRefused, StoreUnavailable, VersionConflict
from pipeline.eventstore.guards import Guards
from pipeline.eventstore.indexes import ORDER
from pipeline.eventstore.transactions import Transactions
from pipeline.eventstore.write_results import DUPLICATE_KEY, Client, Collection
from pipeline.model.events import Event, new_event
from pipeline.support.retry import Outage


def transfer() -> list[Event]:
    return [new_event(str(ULID()), 2, kind, {"money": 1}) for kind in (WITHDRAWN, DEPOSITED)]


class _Trusted:
    """Guards that are always there."""

    epoch = 0

    async def require(self, _: int | None = None) -> None:
        return None


def transactions() -> Transactions:
    outage = Outage(logging.getLogger(__name__), "MongoDB")
    guards = cast(Guards, _Trusted())
    return Transactions(cast(Client, None), cast(Collection, None), guards, outage)


def lost_race() -> OperationFailure:
    return OperationFailure("a race", 112, {"errorLabels": ["TransientTransactionError"]})


async def test_who_may_have_committed_is_not_told_to_decide_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller would make new ids, and the transfer would be there twice."""
    tried, errors = transactions(), iter([AutoReconnect("cut amid the commit")])

    async def commit(_: Sequence[Any]) -> None:
        raise next(errors, lost_race())

    monkeypatch.setattr(tried, "_commit", commit)
    with pytest.raises(StoreUnavailable):
        await tried.start(transfer(), seconds=2.0, epoch=0)


async def test_who_lost_every_race_decides_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = transactions()

    async def commit(_: Sequence[Any]) -> None:
        raise lost_race()

    monkeypatch.setattr(tried, "_commit", commit)
    with pytest.raises(VersionConflict):
        await tried.start(transfer(), seconds=30.0, epoch=0)


class Commits:
    """Takes the place of the commits of `Transactions`. They are answered from `answered` on;
    `asked` has how many events each had. One with that event is refused with that code."""

    def __init__(self, refused: Event | None = None, code: int = 0) -> None:
        self.asked, self.answered = list[int](), asyncio.Event()
        self._refused, self._code = refused and refused["_id"], code

    async def commit(self, documents: Sequence[Any]) -> dict[str, Any] | None:
        self.asked.append(len(documents))
        await self.answered.wait()
        for at, document in enumerate(documents):
            if document["_id"] == self._refused:
                fields = {"keyPattern": dict(ORDER), "errmsg": "refused"}
                return {"index": at, "code": self._code, **fields}
        return None


async def test_a_commit_without_an_answer_does_not_hold_up_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, answer, asked = transactions(), asyncio.Event(), list[int]()

    async def commit(documents: Sequence[Any]) -> None:
        asked.append(len(documents))
        if len(asked) == 1:
            await answer.wait()

    monkeypatch.setattr(tried, "_commit", commit)
    monkeypatch.setattr("pipeline.eventstore.transactions._SLOW", 0.05)
    first = tried.start(transfer(), seconds=30.0, epoch=0)
    await asyncio.sleep(0)  # the first is under way when the second comes
    await asyncio.wait_for(tried.start(transfer(), seconds=30.0, epoch=0), 10)
    assert not first.done()
    answer.set()
    await first
    assert asked == [2, 2]


async def test_the_others_go_on_together_without_the_one_that_came_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else one account of another process's would make each of the others pay for a commit."""
    tried, late = transactions(), transfer()
    commits = Commits(late[1], DUPLICATE_KEY)

    async def stored_ids(*_: Any) -> set[str]:
        return set()

    monkeypatch.setattr(tried, "_commit", commits.commit)
    monkeypatch.setattr("pipeline.eventstore.transactions.stored_ids", stored_ids)
    alone = tried.start(transfer(), seconds=30.0, epoch=0)
    await asyncio.sleep(0)  # it is under way when the others come
    others = [transfer() for _ in range(4)]
    waiting = [
        tried.start(events, seconds=30.0, epoch=0) for events in (*others[:2], late, *others[2:])
    ]
    commits.answered.set()
    outcomes = await asyncio.gather(alone, *waiting, return_exceptions=True)
    assert [type(each) for each in outcomes] == [
        *[type(None)] * 3,
        VersionConflict,
        *[type(None)] * 2,
    ]
    assert commits.asked == [2, 10, 8]

    commits.asked.clear()  # its account is another process's, too; those of the others are not
    again = [new_event(each["account_id"], 3, WITHDRAWN, {"money": 1}) for each in late]
    commits.answered.clear()
    waiting = [tried.start(events, seconds=30.0, epoch=0) for events in (transfer(), again)]
    waiting += [tried.start(transfer(), seconds=30.0, epoch=0) for _ in range(2)]
    commits.answered.set()
    await asyncio.gather(*waiting)
    assert sorted(commits.asked) == [2, 6]


async def test_what_can_not_be_in_time_shares_no_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, late = transactions(), transfer()
    commits = Commits(late[0], 121)
    monkeypatch.setattr(tried, "_commit", commits.commit)
    alone = tried.start(transfer(), seconds=30.0, epoch=0)
    await asyncio.sleep(0)
    waiting = [tried.start(late, 30.0, 0), tried.start(transfer(), 0.0, 0)]
    commits.answered.set()
    outcomes = await asyncio.gather(alone, *waiting, return_exceptions=True)
    assert [type(each) for each in outcomes] == [type(None), StoreRefused, StoreUnavailable]
    assert commits.asked == [2, 4]
