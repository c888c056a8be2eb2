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
from pipeline.eventstore.write_results import Client, Collection
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
    tried, first, asked, late = transactions(), asyncio.Event(), list[int](), transfer()

    async def commit(documents: Sequence[Any]) -> dict[str, Any] | None:
        asked.append(len(documents))
        await first.wait()
        for at, document in enumerate(documents):
            if document["_id"] == late[1]["_id"]:
                return {"index": at, "code": 11000, "keyPattern": dict(ORDER), "errmsg": ""}
        return None

    async def stored_ids(*_: Any) -> set[str]:
        return set()

    monkeypatch.setattr(tried, "_commit", commit)
    monkeypatch.setattr("pipeline.eventstore.transactions.stored_ids", stored_ids)
    alone = tried.start(transfer(), seconds=30.0, epoch=0)
    await asyncio.sleep(0)  # it is under way when the others come
    others = [transfer() for _ in range(4)]
    waiting = [
        tried.start(events, seconds=30.0, epoch=0) for events in (*others[:2], late, *others[2:])
    ]
    first.set()
    outcomes = await asyncio.gather(alone, *waiting, return_exceptions=True)
    assert [type(each) for each in outcomes] == [
        *[type(None)] * 3,
        VersionConflict,
        *[type(None)] * 2,
    ]
    assert asked == [2, 10, 8]

    asked.clear()  # its account is another process's, too; those of the others are not
    again = [new_event(each["account_id"], 3, WITHDRAWN, {"money": 1}) for each in late]
    first.clear()
    waiting = [tried.start(events, seconds=30.0, epoch=0) for events in (transfer(), again)]
    waiting += [tried.start(transfer(), seconds=30.0, epoch=0) for _ in range(2)]
    first.set()
    await asyncio.gather(*waiting)
    assert sorted(asked) == [2, 6]


async def test_what_can_not_be_in_time_shares_no_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, first, asked, late = transactions(), asyncio.Event(), list[int](), transfer()

    async def commit(documents: Sequence[Any]) -> dict[str, Any] | None:
        asked.append(len(documents))
        await first.wait()
        refused = {"index": 0, "code": 121, "errmsg": "no document of ours"}
        return refused if documents[0]["_id"] == late[0]["_id"] else None

    monkeypatch.setattr(tried, "_commit", commit)
    alone = tried.start(transfer(), seconds=30.0, epoch=0)
    await asyncio.sleep(0)
    waiting = [tried.start(late, 30.0, 0), tried.start(transfer(), 0.0, 0)]
    first.set()
    outcomes = await asyncio.gather(alone, *waiting, return_exceptions=True)
    assert [type(each) for each in outcomes] == [type(None), StoreRefused, StoreUnavailable]
    assert asked == [2, 4]
