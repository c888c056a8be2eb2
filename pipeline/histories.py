"""Whole histories from the event store, folded account by account in constant memory."""

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Protocol

from pipeline.events import Event
from pipeline.projection import NOTHING, Advance, replay


class Replayed(Protocol):
    """What is needed of the event store: all events of slots in (slot, account, version) order."""

    def replay(self, slots: Iterable[int]) -> AsyncIterator[list[Event]]: ...


class Chunk(NamedTuple):
    """What some accounts come to, of how many events read since the last one, and the slot that was
    reached: all accounts of the slots before it have been told."""

    accounts: list[Advance]
    events: int
    slot: int


async def histories(store: Replayed, slots: range, size: int) -> AsyncIterator[Chunk]:
    """The accounts of the slots, `size` or some more at a time. Raises the store's errors."""
    accounts: list[Advance] = []
    at, events, slot = NOTHING, 0, slots.start
    async with aclosing(store.replay(slots)) as lists:  # type: ignore[type-var]
        async for listed in lists:
            for account_id, run in groupby(listed, key=itemgetter("account_id")):
                if at is not NOTHING and at.account_id != account_id:
                    accounts.append(at)
                    at = NOTHING
                at = replay(list(run), at)
            events += len(listed)
            slot = listed[-1]["slot"] if listed else slot
            if len(accounts) >= size:
                yield Chunk(accounts, events, slot)
                accounts, events = [], 0
    if at is not NOTHING:
        accounts.append(at)
    if accounts or events:
        yield Chunk(accounts, events, slots.stop)
