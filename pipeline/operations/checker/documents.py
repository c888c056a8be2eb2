"""Does each document equal the fold of its account's events, and is none missing or extra?

Traffic goes on meanwhile. A document that is behind is compared with the fold at its own version,
and counts as lag while events are on their way to its partition. Whatever is in doubt is compared
again (`recheck.py`); a document that has reached the version that was newest before is right.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

from pipeline.banking.balance import BALANCE
from pipeline.eventstore import EventStore
from pipeline.model.events import Event, slot_of
from pipeline.model.plain import plain
from pipeline.operations.checker.ledger import LedgerAccount, folded
from pipeline.operations.checker.report import Faults
from pipeline.operations.recheck import Patience, caught_up, rounds
from pipeline.support.bucket_sums import BUCKETS, Sums, fingerprint

MOST_DOUBTS: Final = 20_000
"""Accounts that are compared again. Of those beyond, only the number is kept: memory is bounded."""

Document = Mapping[str, Any]
UnderWay = Callable[[], Awaitable[frozenset[int]]]
"""Returns the slots of which the stream may hold events that are not applied yet."""


class CheckedProjection(Protocol):
    """What the checker reads of the index, in chunks."""

    async def version(self) -> int: ...

    async def documents(self, ids: list[str]) -> dict[str, dict[str, Any]]: ...

    def ids(self) -> AsyncIterator[list[str]]: ...


class Doubt(NamedTuple):
    """A document that differs: it is `behind` the version `newest` by so many events, or wrong."""

    what: str
    behind: int = 0
    newest: int = 0

    @property
    def version(self) -> int:
        return self.newest - self.behind


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
    _complete: bool = True
    _ids: Sums = field(default_factory=Sums)
    _doubts: dict[str, Doubt] = field(default_factory=dict)
    _beyond_wrong: int = 0
    _beyond_behind: int = 0

    async def compare(self, accounts: list[LedgerAccount]) -> None:
        """Compare the documents of some accounts; doubts are kept for `settle`."""
        found = await self._read([account.id for account in accounts])
        self.documents += len(found)
        for account_id in found:
            self._ids.add(fingerprint(account_id), 1)
        for account in accounts:
            document = found.get(account.id)
            self._note(account.id, self._doubt(document, account, account.version))

    async def find_extra(self) -> None:
        """Find documents of accounts that have no event.

        The ids of the index are summed up, less those of the documents that were compared. Only
        the buckets whose sums differ are looked up in the event store, in a second scan.
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
        """Compare again what is in doubt, for `patience` seconds, and judge what is left."""
        async for ids, _ in rounds(self._doubts, Patience(patience)):
            await self._recheck(ids)
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
            self.faults.add(f"{lost} more accounts, each compared once")

    async def _read(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        """The documents, and whether they are of an index in which they have all fields."""
        # Before the documents: if the alias moves meanwhile, these are of the newer index.
        self._complete = await self.projection.version() >= BALANCE.version
        return await self.projection.documents(ids)

    async def _recheck(self, ids: list[str]) -> None:
        """Renew each doubt, or drop it when it has gone."""
        documents = await self._read(ids)
        histories = await self.store.load_many(ids)  # after the documents: never older than they
        for account_id in ids:
            before = self._doubts.pop(account_id)
            document, events = documents.get(account_id), histories.get(account_id, [])
            doubt = self._compare_again(account_id, document, events)
            if doubt is not None and not caught_up(doubt.version, before.newest):
                self._note(account_id, doubt)

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
        """Compare a document with its account, folded to the document's version or the newest."""
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
        # An index that an older release made has none.
        if account.owner is not None and (self._complete or "owner_plain" in document):
            # By the product's own definition, which is all that there is of a plain form.
            wanted["owner_plain"] = plain(account.owner)
        wrong = [
            f"{name} {document.get(name)!r} for {value!r}"
            for name, value in wanted.items()
            if document.get(name) != value
        ]
        if not _same_time(document.get("updated_at"), account.at):
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


def _same_time(shown: object, at: datetime | None) -> bool:
    try:
        time = datetime.fromisoformat(str(shown))
    except ValueError:
        return False
    shown_in_utc = time if time.tzinfo else time.replace(tzinfo=UTC)
    return at is not None and shown_in_utc == at.replace(tzinfo=UTC)
