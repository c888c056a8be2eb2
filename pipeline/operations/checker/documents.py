"""Does each document equal the fold of its account's events, and is none missing or extra?

Traffic goes on meanwhile. A document that is behind is compared with the fold at its own version
and counts as lag while anything is still on its way to its partition; what looks wrong is looked at
again, documents first and events after, until a deadline. One that has come to what was newest at
the look before follows, and is well.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol

from pipeline.eventstore import EventStore
from pipeline.model.events import Event, slot_of
from pipeline.operations.checker.ledger import LedgerAccount, folded
from pipeline.operations.checker.report import Faults
from pipeline.support.bucket_sums import BUCKETS, Sums, fingerprint

CHUNK: Final = 500
MOST_DOUBTS: Final = 20_000
"""So many accounts are looked at again; of any beyond, only the number is kept."""

Document = Mapping[str, Any]
UnderWay = Callable[[], Awaitable[frozenset[int]]]
"""The slots for which the stream may still hold events that are not applied."""


class CheckedProjection(Protocol):
    """What the checker reads of the index, in chunks."""

    async def documents(self, ids: list[str]) -> dict[str, dict[str, Any]]: ...

    def ids(self) -> AsyncIterator[list[str]]: ...


class Doubt(NamedTuple):
    """What is not as it should be: a document that is `behind` the version `newest` by so many
    events, or else wrong."""

    what: str
    behind: int = 0
    newest: int = 0

    def follows(self, before: "Doubt") -> bool:
        """Whether it has come to what was newest when it was looked at before."""
        return self.newest - self.behind >= before.newest > 0


@dataclass(slots=True)
class CheckedDocuments:
    """Compares documents with accounts, chunk by chunk, and counts."""

    store: EventStore
    projection: CheckedProjection
    parked: Container[str] = ()
    documents: int = 0
    lag_documents: int = 0
    lag_events: int = 0
    faults: Faults = field(default_factory=Faults)
    _ids: Sums = field(default_factory=Sums)
    _doubts: dict[str, Doubt] = field(default_factory=dict)
    _beyond_wrong: int = 0
    _beyond_behind: int = 0

    async def compare(self, accounts: list[LedgerAccount]) -> None:
        """Look at the documents of some accounts; doubts are kept for `settle`."""
        found = await self.projection.documents([account.id for account in accounts])
        self.documents += len(found)
        for account_id in found:
            self._ids.add(fingerprint(account_id), 1)
        for account in accounts:
            document = found.get(account.id)
            self._note(account.id, self._doubt(document, account, account.version))

    async def find_extra(self) -> None:
        """Compare the ids of the index with the documents that accounts were found to have.

        Only where they differ is the event store asked, in a second scan.
        """
        async for ids in self.projection.ids():
            for account_id in ids:
                self._ids.add(fingerprint(account_id), -1)
        uneven = self._ids.uneven()
        if not uneven:
            return
        async for ids in self.projection.ids():
            doubtful = [each for each in ids if fingerprint(each) % BUCKETS in uneven]
            known = await self.store.load_many(doubtful)
            for account_id in doubtful:
                if not known[account_id]:
                    self._note(account_id, Doubt("a document without an event"))

    async def settle(self, patience: float, under_way: UnderWay) -> None:
        """Look again at what is in doubt, for `patience` seconds, and then judge what is left."""
        deadline, pause = monotonic() + patience, 0.1
        while await self._recheck() and monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 1.6, 2.0)
        self._judge(await under_way() if self._doubts else frozenset())

    def _judge(self, moving: frozenset[int]) -> None:
        for account_id, doubt in self._doubts.items():
            if doubt.behind and slot_of(account_id) in moving:
                self.lag_documents += 1
                self.lag_events += doubt.behind
            else:
                waits = " (parked: `bank parked show`)" if account_id in self.parked else ""
                self.faults.add(f"account {account_id}: {doubt.what}{waits}")
        lost = self._beyond_wrong + (0 if moving else self._beyond_behind)
        self.lag_documents += self._beyond_behind if moving else 0
        if lost:
            self.faults.add(f"{lost} more accounts, each looked at once")

    async def _recheck(self) -> bool:
        """Renew every doubt, or drop it when it has gone. Is one left?"""
        waiting = iter(list(self._doubts))
        while ids := list(islice(waiting, CHUNK)):
            documents = await self.projection.documents(ids)
            histories = await self.store.load_many(ids)
            for account_id in ids:
                before = self._doubts.pop(account_id)
                document, events = documents.get(account_id), histories.get(account_id, [])
                doubt = self._compare_again(account_id, document, events)
                if doubt is not None and not doubt.follows(before):
                    self._note(account_id, doubt)
        return bool(self._doubts)

    def _compare_again(
        self, account_id: str, document: Document | None, events: list[Event]
    ) -> Doubt | None:
        if not events:
            return Doubt("a document without an event") if document is not None else None
        version = document.get("version") if document is not None else 0
        at_most = version if isinstance(version, int) else 0
        return self._doubt(document, folded(account_id, events, at_most), events[-1]["version"])

    def _doubt(
        self, document: Document | None, account: LedgerAccount, newest: int
    ) -> Doubt | None:
        """Compare a document with its account, folded to its version or to the newest."""
        if document is None:
            return Doubt(f"no document for {newest} events", newest, newest)
        version = document.get("version")
        if not isinstance(version, int) or not 0 < version <= newest:
            return Doubt(f"the document's version is {version}, the events end at {newest}")
        if version == account.version and (wrong := self._differences(document, account)):
            return Doubt(f"the document at version {version} has {wrong}")
        if version < newest:
            return Doubt(
                f"the document is at version {version} of {newest}", newest - version, newest
            )
        return None

    def _differences(self, document: Document, account: LedgerAccount) -> str:
        wanted = {
            "id": account.id,
            "owner": account.owner,
            "balance": account.balance,
            "status": account.status,
            "slot": account.slot,
            "event_id": account.event_id,
        }
        wrong = [
            f"{name} {document.get(name)!r} for {value!r}"
            for name, value in wanted.items()
            if document.get(name) != value
        ]
        if not _same_moment(document.get("updated_at"), account.at):
            wrong.append(f"updated_at {document.get('updated_at')!r} for {account.at}")
        return ", ".join(wrong)

    def _note(self, account_id: str, doubt: Doubt | None) -> None:
        if doubt is None:
            return
        if len(self._doubts) < MOST_DOUBTS or account_id in self._doubts:
            self._doubts[account_id] = doubt
        elif doubt.behind:
            self._beyond_behind += 1
        else:
            self._beyond_wrong += 1


def _same_moment(shown: object, at: datetime | None) -> bool:
    try:
        moment = datetime.fromisoformat(str(shown))
    except ValueError:
        return False
    shown_in_utc = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return at is not None and shown_in_utc == at.replace(tzinfo=UTC)
