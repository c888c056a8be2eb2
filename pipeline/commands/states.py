"""The states of aggregates of one kind, from memory or from the event store."""

from typing import Any, Generic

from pipeline.commands.caches import StateCache
from pipeline.commands.command_store import CommandStore
from pipeline.commands.histories import Histories
from pipeline.commands.personal_keys import Keys, KeyStore
from pipeline.commands.snapshots import due
from pipeline.model.aggregate import Aggregate, S
from pipeline.model.versioned import Versioned, fold_on


class States(Generic[S]):
    """Loading raises `StoreUnavailable` and `AggregateUnreadable`."""

    def __init__(
        self,
        aggregate: Aggregate[Any, S],
        store: CommandStore,
        histories: Histories[S],
        remembered: int,
        *,
        begin_chains: bool = True,
        keys: KeyStore | None = None,
    ) -> None:
        """`remembered`: the number of aggregates whose states are kept; with 0 each is loaded.
        `begin_chains`: whether commands begin the chains of hashes that have not begun. `keys`:
        where the keys of personal fields are, None if commands do not encrypt these."""
        self._aggregate, self._store, self._histories = aggregate, store, histories
        self._epoch = store.guards.epoch
        self.begin_chains, self._keys = begin_chains, keys
        self._cache = StateCache[S](remembered)

    def remember(self, state: Versioned[S]) -> None:
        """Keep the state after a command whose event is stored: that can't be rolled back. A state
        that was only loaded must not be kept here. Now and then it is stored as a snapshot."""
        if self._epoch != self._store.guards.epoch:
            return
        before = self._cache.get(state.id)
        self._cache.put(state)
        if before is not None and due(before, state):
            self._histories.keep(state)

    def remembered(self, aggregate_id: str) -> Versioned[S] | None:
        """A state that may be old: the unique index on the version refuses what was decided on
        it."""
        self._forget_other_epochs()
        return self._cache.get(aggregate_id)

    def new_keys(self) -> Keys | None:
        """For one batch; None if commands do not encrypt personal fields."""
        return None if self._keys is None else Keys(self._keys)

    async def present(self, aggregate_id: str) -> Versioned[S]:
        """The state after all events stored now. Events never change, so only new ones are read."""
        known = self.remembered(aggregate_id)
        if known is None:
            return await self._histories.present(aggregate_id)
        events = await self._store.load(aggregate_id, after=known.version)
        return fold_on(self._aggregate, known, events)

    async def looked_up(self, aggregate_id: str) -> Versioned[S]:
        """As `present`, with the same reads whatever is remembered, and whether there is such an
        aggregate or not."""
        return await self._histories.looked_up(aggregate_id)

    async def at(self, aggregate_id: str, version: int) -> Versioned[S]:
        """The state after the event of that version, which must exist."""
        return await self._histories.at_version(aggregate_id, version)

    def _forget_other_epochs(self) -> None:
        """Forget all states if the store's guards were lost: what they were made of may be gone."""
        if self._epoch != self._store.guards.epoch:
            self._epoch = self._store.guards.epoch
            self._cache.clear()
