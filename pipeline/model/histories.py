"""Whole histories from the event store, folded account by account in constant memory."""

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Protocol

from pipeline.model.events import Event
from pipeline.model.projection import NOTHING, Advance, Projection


class Replayed(Protocol):
    """The event store: all events of slots, in order of slot, account and version."""

    def replay(self, slots: Iterable[int]) -> AsyncIterator[list[Event]]: ...


class Chunk(NamedTuple):
    """Some folded accounts, the number of events read since the last chunk, and the slot reached:
    all accounts of the slots before it are in this chunk or an earlier one."""

    accounts: list[Advance]
    events: int
    slot: int


async def histories(
    projection: Projection, store: Replayed, slots: range, size: int
) -> AsyncIterator[Chunk]:
    """The accounts of the slots, folded, in chunks of at least `size` documents.

    If the projection keeps a document of each event, an account may come in parts. Raises the
    store's errors.
    """
    accounts: list[Advance] = []
    at, events, slot, documents = NOTHING, 0, slots.start, 0
    async with aclosing(store.replay(slots)) as lists:  # type: ignore[type-var]
        async for listed in lists:
            for account_id, run in groupby(listed, key=itemgetter("account_id")):
                if at is not NOTHING:
                    same = at.account_id == account_id
                    if projection.every or not same:
                        accounts.append(at._replace(more=same))
                        documents += max(1, len(at.documents))
                    at = at if same else NOTHING
                at = projection.replay(run, at)
            events += len(listed)
            slot = listed[-1]["slot"] if listed else slot
            if documents >= size:
                yield Chunk(accounts, events, slot)
                accounts, events, documents = [], 0, 0
    if at is not NOTHING:
        accounts.append(at)
    if accounts or events:
        yield Chunk(accounts, events, slots.stop)
