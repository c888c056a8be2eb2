"""The accounts' states: remembered, or folded from the event store."""

import asyncio
from collections.abc import Collection
from functools import reduce

from api.accounts.account import Account, evolve
from api.accounts.caches import StateCache
from api.accounts.histories import Histories
from api.accounts.snapshots import due, snapshot_of
from pipeline.eventstore import EventStore


class States:
    """Loading raises `StoreUnavailable` and `AccountUnreadable`."""

    def __init__(self, store: EventStore, histories: Histories, remembered: int) -> None:
        """`remembered`: how many accounts' states to keep; 0 loads each anew."""
        self._store, self._histories = store, histories
        self._cache = StateCache(remembered)

    def remember(self, state: Account) -> None:
        """Keep a state that nothing can roll back: a command's, once its event is stored. What was
        only loaded is not yet that. Now and then the store keeps it, too, as a snapshot."""
        before = self._cache.get(state.id)
        self._cache.put(state)
        if before is not None and due(before, state):
            self._store.snapshots.keep(snapshot_of(state))

    def remembered(self, account_id: str) -> Account | None:
        return self._cache.get(account_id)

    async def of(
        self, account_ids: Collection[str], *, doubtful: bool = False
    ) -> tuple[dict[str, Account], bool]:
        """The accounts' states, and whether all were loaded just now.

        A remembered one may be old: versions guard what is built on it. `doubtful`: none will do.
        """
        known = {} if doubtful else {i: s for i in account_ids if (s := self._cache.get(i))}
        missing = [i for i in account_ids if i not in known]
        if not missing:
            return known, False
        loaded = await asyncio.gather(*(self.present(i) for i in missing))
        return known | dict(zip(missing, loaded, strict=True)), not known

    async def present(self, account_id: str) -> Account:
        """The state with all that is stored now: events never change, so none is read twice."""
        known = self._cache.get(account_id)
        if known is None:
            return await self._histories.present(account_id)
        return reduce(evolve, await self._store.load(account_id, after=known.version), known)

    async def at(self, account_id: str, version: int) -> Account:
        """The state after the event of that version, which must exist."""
        return await self._histories.at_version(account_id, version)
