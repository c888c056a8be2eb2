"""Shared transactions whose outcome is late or unknown; the server's answers are the test's."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pymongo.errors import AutoReconnect, OperationFailure
from ulid import ULID

from pipeline.banking.events import DEPOSITED, WITHDRAWN
from pipeline.eventstore import StoreUnavailable, VersionConflict
from pipeline.eventstore.guards import Guards
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
