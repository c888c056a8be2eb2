"""Accounts folded from the event store, as they are and as they were.

Folding starts at an earlier state, one loaded here before or a snapshot, if the store confirms it:
the event that the state ends with is read first, and must have the state's event id. A state that
is not confirmed is ignored.
"""

import logging
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from api.accounts.account import Account, evolve, initial
from pipeline.commands.caches import StateCache
from api.accounts.errors import AccountNotFound, Refused
from pipeline.commands.snapshots import EVERY, snapshot_of, trusted
from pipeline.eventstore import EventStore
from pipeline.model.chain import chained, hash_of
from pipeline.model.events import Event

log = logging.getLogger(__name__)


class VersionNotFound(Refused):
    """The account has fewer events than that version."""


class NotOpenedYet(Refused):
    """The account was opened after that time."""


@dataclass(frozen=True, slots=True)
class Until:
    """How far to fold: up to a version, and up to the first event that is later than `at` (naive
    UTC). So the result is always a prefix of the history, even if clocks differ."""

    version: int | None = None
    at: datetime | None = None

    def covers(self, state: Account) -> bool:
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


class Histories:
    """Reads one event store. Every method may raise `StoreUnavailable` and `AccountUnreadable`."""

    def __init__(self, store: EventStore, *, remembered: int = 10_000) -> None:
        """`remembered`: the number of accounts whose last loaded state is kept in memory."""
        self._store, self._loaded = store, StateCache(remembered)

    async def present(self, account_id: str) -> Account:
        """The account after all events stored now; version 0 if there is none."""
        state = await self._folded(account_id, NOW)
        if state.version:
            self._loaded.put(state)
        return state

    async def looked_up(self, account_id: str) -> Account:
        """As `present`, with the same reads whether there is such an account or not."""
        return await self._from_snapshot(account_id, NOW)

    async def at_version(self, account_id: str, version: int) -> Account:
        """The account after the event of that version; `AccountNotFound`, `VersionNotFound`."""
        state = await self._folded(account_id, Until(version=version))
        if not state.version:
            raise AccountNotFound(account_id)
        if state.version < version:
            raise VersionNotFound(account_id)
        return state

    async def at_time(self, account_id: str, at: datetime) -> Account:
        """The account when no event later than `at` (naive UTC) had happened to it yet.

        Raises `AccountNotFound` and `NotOpenedYet`.
        """
        state = await self._folded(account_id, Until(at=at))
        if state.version:
            return state
        if await self._store.page(account_id, after=0, limit=1):
            raise NotOpenedYet(account_id)
        raise AccountNotFound(account_id)

    async def _folded(self, account_id: str, until: Until) -> Account:
        state = await self._verified(self._loaded.get(account_id), until)
        return state or await self._from_snapshot(account_id, until)

    async def _from_snapshot(self, account_id: str, until: Until) -> Account:
        kept = await self._store.snapshots.find(account_id)
        baseline = trusted(kept)
        state = await self._verified(baseline, until)
        if baseline is None or state is None:
            baseline = initial(account_id)
            state = await self._from(baseline, until)
        wrong = kept is not None and not baseline.version
        if until == NOW and state.version and (wrong or state.version - baseline.version > EVERY):
            self._store.snapshots.keep(snapshot_of(state))
        return state

    async def _verified(self, baseline: Account | None, until: Until) -> Account | None:
        """Fold from a state if the store confirms it; None if not, or if it is beyond the limit."""
        if baseline is None or not until.covers(baseline):
            return None
        try:
            return await self._from(baseline, until)
        except _NotInHistory:
            log.info(
                "version %d of account %s is not in the event store: the state is ignored",
                baseline.version,
                baseline.id,
            )
            return None

    async def _from(self, state: Account, until: Until) -> Account:
        """Fold the events after a state. The state's last event is read, too, and must be the
        same."""
        proof = state.event_id
        pages = self._store.walk(state.id, after=state.version - bool(proof), to=until.version)
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
                    state = evolve(state, event)
                proof = ""
        if proof:
            raise _NotInHistory
        return state
