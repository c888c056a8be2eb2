"""Aggregates folded from the event store, as they are and as they were.

Folding starts at an earlier state, one loaded here before or a snapshot, if the store confirms it:
the event that the state ends with is read first, and must have the state's event id. A state that
is not confirmed is ignored.
"""

import logging
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic

from pipeline.commands.caches import StateCache
from pipeline.commands.command_store import CommandStore
from pipeline.commands.errors import AggregateNotFound, NotBegunYet, VersionNotFound
from pipeline.commands.personal_keys import KeyStore
from pipeline.commands.snapshots import EVERY, hidden, shown, snapshot_of, trusted
from pipeline.model.aggregate import Aggregate, S
from pipeline.model.chain import chained, hash_of
from pipeline.model.events import Event
from pipeline.model.personal import Subject
from pipeline.model.versioned import Versioned, evolve, initial

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Until:
    """How far to fold: up to a version, and up to the first event that is later than `at` (naive
    UTC). So the result is always a prefix of the history, even if clocks differ."""

    version: int | None = None
    at: datetime | None = None

    def covers(self, state: Versioned[Any]) -> bool:
        """Whether all events of the state are within the limit."""
        if self.version is not None and state.version > self.version:
            return False
        return self.at is None or state.until is None or state.until <= self.at

    def ends_before(self, event: Event) -> bool:
        """Whether the event is beyond the limit, and so are all after it."""
        time = event.get("created_at")
        return self.at is not None and isinstance(time, datetime) and time > self.at


NOW: Final = Until()


class _NotInHistory(Exception):
    """The event that a state ends with is not in the store."""


class Histories(Generic[S]):
    """Reads aggregates of one kind from one event store. Every method may raise `StoreUnavailable`
    and `AggregateUnreadable`."""

    def __init__(
        self,
        aggregate: Aggregate[Any, S],
        store: CommandStore,
        *,
        remembered: int = 10_000,
        keys: KeyStore | None = None,
    ) -> None:
        """`remembered`: the number of aggregates whose last loaded state is kept in memory. `keys`:
        where the keys of snapshots are, None to leave them in clear."""
        self._aggregate, self._store, self._keys = aggregate, store, keys
        self._loaded = StateCache[S](remembered)

    async def present(self, aggregate_id: str) -> Versioned[S]:
        """The aggregate after all events stored now; version 0 if there is none."""
        state = await self._folded(aggregate_id, NOW)
        if state.version:
            self._loaded.put(state)
        return state

    async def looked_up(self, aggregate_id: str) -> Versioned[S]:
        """As `present`, with the same reads whether there is such an aggregate or not."""
        return await self._from_snapshot(aggregate_id, NOW)

    async def at_version(self, aggregate_id: str, version: int) -> Versioned[S]:
        """The aggregate after the event of that version; `AggregateNotFound`, `VersionNotFound`."""
        state = await self._folded(aggregate_id, Until(version=version))
        if not state.version:
            raise AggregateNotFound(aggregate_id=aggregate_id)
        if state.version < version:
            raise VersionNotFound(aggregate_id=aggregate_id)
        return state

    async def at_time(self, aggregate_id: str, at: datetime) -> Versioned[S]:
        """The aggregate when no event later than `at` (naive UTC) had happened to it yet.

        Raises `AggregateNotFound` and `NotBegunYet`.
        """
        state = await self._folded(aggregate_id, Until(at=at))
        if state.version:
            return state
        if await self._store.page(aggregate_id, after=0, limit=1):
            raise NotBegunYet(aggregate_id=aggregate_id)
        raise AggregateNotFound(aggregate_id=aggregate_id)

    def keep(self, state: Versioned[S]) -> None:
        """Store the state as a snapshot, in the background, if it can be stored."""
        if (snapshot := snapshot_of(self._aggregate, state)) is None:
            return
        if (keys := self._keys) is None:
            self._store.snapshots.keep(snapshot)
            return

        async def encrypted(snapshot: dict[str, Any]) -> dict[str, Any]:
            return hidden(snapshot, await keys.obtain(state.id, state.forgotten))

        self._store.snapshots.keep(snapshot, encrypted)

    async def _folded(self, aggregate_id: str, until: Until) -> Versioned[S]:
        remembered = self._loaded.get(aggregate_id)
        if until != NOW and remembered is not None and await self._forgotten_since(remembered):
            remembered = None
        state = await self._verified(remembered, until)
        return state or await self._from_snapshot(aggregate_id, until)

    async def _forgotten_since(self, state: Versioned[S]) -> bool:
        """Whether the state may have personal fields that are forgotten now. The present state need
        not be asked: the event that says so is among those after this one."""
        if not self._aggregate.personal:
            return False
        subject = (await self._store.keys.known([state.id])).get(state.id)
        return subject is not None and subject.since > state.forgotten

    async def _from_snapshot(self, aggregate_id: str, until: Until) -> Versioned[S]:
        if self._aggregate.personal:  # whatever is there, so that all take the same queries
            kept, subject = await self._store.snapshot_and_keys(aggregate_id)
        else:
            kept, subject = await self._store.snapshots.find(aggregate_id), None
        keys = {} if subject is None else {aggregate_id: subject}
        baseline = trusted(self._aggregate, shown(kept, subject))
        state = await self._verified(baseline, until, keys)
        if baseline is None or state is None:
            baseline = initial(self._aggregate, aggregate_id)
            state = await self._from(baseline, until, keys)
        wrong = kept is not None and not baseline.version
        if until == NOW and state.version and (wrong or state.version - baseline.version > EVERY):
            self.keep(state)
        return state

    async def _verified(
        self,
        baseline: Versioned[S] | None,
        until: Until,
        keys: Mapping[str, Subject] | None = None,
    ) -> Versioned[S] | None:
        """Fold from a state if the store confirms it; None if not, or if it is beyond the limit."""
        if baseline is None or not until.covers(baseline):
            return None
        try:
            return await self._from(baseline, until, keys)
        except _NotInHistory:
            log.info(
                "version %d of %s %s is not in the event store: the state is ignored",
                baseline.version,
                self._aggregate.name,
                baseline.id,
            )
            return None

    async def _from(
        self, state: Versioned[S], until: Until, keys: Mapping[str, Subject] | None = None
    ) -> Versioned[S]:
        """Fold the events after a state, all that there are. `keys`: those of the aggregate, if
        they are read already."""
        state = await self._walked(state, until, keys)
        await self._store.guards.require_whole()  # after the events: it is they that may be missing
        return state

    async def _walked(
        self, state: Versioned[S], until: Until, keys: Mapping[str, Subject] | None
    ) -> Versioned[S]:
        """Fold the events after a state. The state's last event is read, too, and must be the
        same."""
        proof = state.event_id
        pages = self._store.walk(
            state.id, after=state.version - bool(proof), to=until.version, keys=keys
        )
        async with aclosing(pages):
            async for events in pages:
                if proof:
                    if events[0]["_id"] != proof:
                        raise _NotInHistory
                    head = events[0]
                    state = replace(state, hash=hash_of(head), chained=chained(head))
                for event in events[bool(proof) :]:
                    if until.ends_before(event):
                        return state
                    state = evolve(self._aggregate, state, event)
                proof = ""
        if proof:
            raise _NotInHistory
        return state
