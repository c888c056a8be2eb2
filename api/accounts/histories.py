"""Accounts folded from the event store: as they are, and as they were.

Folding begins at a state that the account had: one that was loaded here before, or its snapshot.
The first event that is read proves it: the one that the state ends with. What can't be proved is
not used.
"""

import logging
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from api.accounts.account import Account, evolve, initial
from api.accounts.caches import StateCache
from api.accounts.errors import AccountNotFound, Refused
from api.accounts.snapshots import EVERY, snapshot_of, trusted
from pipeline.eventstore import EventStore
from pipeline.model.events import Event

log = logging.getLogger(__name__)


class VersionNotFound(Refused):
    """The account has not come to that version."""


class NotOpenedYet(Refused):
    """The account was opened after that time."""


@dataclass(frozen=True, slots=True)
class Until:
    """How far to fold: up to a version, and to the last event before one that is later than `at`
    (a naive UTC moment). So it is always a whole beginning of the history, whatever clocks say."""

    version: int | None = None
    at: datetime | None = None

    def covers(self, state: Account) -> bool:
        """Whether all that came to the state is to be folded."""
        if self.version is not None and state.version > self.version:
            return False
        return self.at is None or state.until is None or state.until <= self.at

    def ends_before(self, event: Event) -> bool:
        """Whether the event, and with it all that follow, is not to be folded."""
        moment = event.get("created_at")
        return self.at is not None and isinstance(moment, datetime) and moment > self.at


NOW: Final = Until()


class _NotInHistory(Exception):
    """The event that a state ends with is not in the store."""


class Histories:
    """Reads one event store. Every method may raise `StoreUnavailable` and `AccountUnreadable`."""

    def __init__(self, store: EventStore, *, remembered: int = 10_000) -> None:
        """`remembered`: of how many accounts to keep what was loaded last, as a snapshot here."""
        self._store, self._loaded = store, StateCache(remembered)

    async def present(self, account_id: str) -> Account:
        """The account with all that is stored now; version 0 if there is none."""
        state = await self._folded(account_id, NOW)
        if state.version:
            self._loaded.put(state)
        return state

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
        """What came of a state that the account is said to have had; None if that can't be told,
        or is more than is asked for."""
        if baseline is None or not until.covers(baseline):
            return None
        try:
            return await self._from(baseline, until)
        except _NotInHistory:
            log.info("Version %d of account %s is another one", baseline.version, baseline.id)
            return None

    async def _from(self, state: Account, until: Until) -> Account:
        """Fold what follows a state; its own event is read again, to see that it is there."""
        proof = state.event_id
        pages = self._store.walk(state.id, after=state.version - bool(proof), to=until.version)
        async with aclosing(pages):
            async for events in pages:
                if proof and events[0]["_id"] != proof:
                    raise _NotInHistory
                for event in events[bool(proof) :]:
                    if until.ends_before(event):
                        return state
                    state = evolve(state, event)
                proof = ""
        if proof:
            raise _NotInHistory
        return state
