"""The states of accounts, from memory or from the event store."""

import asyncio
from collections.abc import Collection
from functools import reduce

from api.accounts.account import Account, evolve
from pipeline.commands.caches import StateCache
from pipeline.commands.histories import Histories
from pipeline.commands.snapshots import due, snapshot_of
from pipeline.eventstore import EventStore


class States:
    """Loading raises `StoreUnavailable` and `AccountUnreadable`."""

    def __init__(
        self,
        store: EventStore,
        histories: Histories,
        remembered: int,
        *,
        begin_chains: bool = True,
    ) -> None:
        """`remembered`: the number of accounts whose states are kept; with 0 each is loaded.
        `begin_chains`: whether commands begin the chains of hashes that have not begun."""
        self._store, self._histories = store, histories
        self._epoch = store.guards.epoch
        self.begin_chains = begin_chains
        self._cache = StateCache(remembered)

    def remember(self, state: Account) -> None:
        """Keep the state after a command whose event is stored: that can't be rolled back. A state
        that was only loaded must not be kept here. Now and then it is stored as a snapshot."""
        if self._epoch != self._store.guards.epoch:
            return
        before = self._cache.get(state.id)
        self._cache.put(state)
        if before is not None and due(before, state):
            self._store.snapshots.keep(snapshot_of(state))

    def remembered(self, account_id: str) -> Account | None:
        self._forget_other_epochs()
        return self._cache.get(account_id)

    async def of(
        self, account_ids: Collection[str], *, doubtful: bool = False
    ) -> tuple[dict[str, Account], bool]:
        """The accounts' states, and whether all were loaded just now.

        A remembered state may be old: the unique index on the version refuses what was decided on
        it. `doubtful`: load all.
        """
        known = {} if doubtful else {i: s for i in account_ids if (s := self.remembered(i))}
        missing = [i for i in account_ids if i not in known]
        if not missing:
            return known, False
        loaded = await asyncio.gather(*(self.present(i) for i in missing))
        return known | dict(zip(missing, loaded, strict=True)), not known

    async def present(self, account_id: str) -> Account:
        """The state after all events stored now. Events never change, so only new ones are read."""
        known = self.remembered(account_id)
        if known is None:
            return await self._histories.present(account_id)
        return reduce(evolve, await self._store.load(account_id, after=known.version), known)

    async def looked_up(self, account_id: str) -> Account:
        """As `present`, with the same reads whatever is remembered, and whether there is such an
        account or not."""
        return await self._histories.looked_up(account_id)

    async def at(self, account_id: str, version: int) -> Account:
        """The state after the event of that version, which must exist."""
        return await self._histories.at_version(account_id, version)

    def _forget_other_epochs(self) -> None:
        """Forget all states if the store's guards were lost: what they were made of may be gone."""
        if self._epoch != self._store.guards.epoch:
            self._epoch = self._store.guards.epoch
            self._cache.clear()
