"""Compares documents with the fold of their events, while traffic goes on; writes nothing.

A document that differs at first sight is compared again (`recheck.py`). If it still claims what its
events do not say, it is wrong. If it is behind, it may be lag, until it has had the time to reach
the version that was newest when it was first compared. Memory does not grow with the accounts.
"""

from collections.abc import AsyncIterator, Container, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

from pipeline.agents.rebuild.repair import DocumentIds, possible_orphans
from pipeline.model.events import slot_of
from pipeline.model.histories import Replayed, histories
from pipeline.model.projection import Advance, Projection
from pipeline.operations.recheck import CHUNK, Patience, caught_up, chunks, rounds
from pipeline.operations.repair.diff import Difference, DocumentDiff, ParkedIds, diff_document
from pipeline.search import FoundDocument
from pipeline.support.bucket_sums import Sums, fingerprint
from pipeline.tables.documents import HistoryLoader
from pipeline.tables.versioned_document import ReplayedAccount, trusted

MOST_DOUBTS: Final = 10_000
"""Documents in doubt at a time; with more, the walk waits until they are settled."""
PATIENCE: Final = 10.0


class ComparisonStore(HistoryLoader, Replayed, Protocol):
    """The part of the event store that is read."""


class ComparisonLog(Protocol):
    """The stream between the event store and the projection."""

    async def end(self) -> Any:
        """The position at which the log ends now."""

    async def behind(self, end: Any) -> Container[int]:
        """The slots of which events up to that end are not applied yet."""


class DocumentLookup(DocumentIds, Protocol):
    """The part of the index that is read; `pipeline.search.scan.IndexScan` has it."""

    async def found(self, ids: Sequence[str]) -> dict[str, FoundDocument]: ...


class Comparison:
    """One comparison, and how much it has read.

    `accounts`, `events`: read in the store; `documents`: found for them. `lagging`: documents that
    are behind and whose events are on the way, which is no difference. `patience`: seconds, in all,
    in which a document that is behind may come right; the first half is for the forwarder. Without
    a `log` nothing counts as on the way. Raises what the stores raise.
    """

    def __init__(
        self,
        store: ComparisonStore,
        documents: DocumentLookup,
        log: ComparisonLog | None,
        projection: Projection,
        *,
        parked: ParkedIds = frozenset(),
        patience: float = PATIENCE,
    ) -> None:
        self.accounts = self.events = self.documents = self.lagging = 0
        self._store, self._documents, self._log = store, documents, log
        self._projection = projection
        self._parked, self._patience = parked, Patience(patience)
        self._doubts: dict[str, DocumentDiff | None] = {}

    async def slots(self, slots: range) -> AsyncIterator[Difference]:
        """The differences among all accounts of the slots, and all documents."""
        ids = Sums()
        async with aclosing(histories(self._projection, self._store, slots, CHUNK)) as chunks:  # type: ignore[type-var]
            async for accounts, events, _ in chunks:
                self.events += events
                await self._compare(accounts, ids)
                async for difference in self._settled(MOST_DOUBTS):
                    yield difference
        orphans = possible_orphans(self._projection, slots, ids, self._documents)
        async with aclosing(orphans) as pages:  # type: ignore[type-var]
            async for page in pages:
                replayed = await self._replayed(page)
                self._doubts |= {
                    each: None for each in page if each not in replayed[each].documents
                }
                async for difference in self._settled(MOST_DOUBTS):
                    yield difference
        async for difference in self._settled(1):
            yield difference

    async def these(self, account_ids: Iterable[str]) -> AsyncIterator[Difference]:
        """The differences of some accounts, whether they exist or not."""
        for ids in chunks(account_ids, MOST_DOUBTS):
            self.accounts += len(ids)
            self._doubts |= dict.fromkeys(await self._document_ids(ids))
            async for difference in self._settled(1):
                yield difference

    async def _compare(self, accounts: Sequence[Advance], ids: Sums) -> None:
        """Compare for the first time. A document that is newer than the events read is in doubt,
        too."""
        wanted = {each["id"]: each for account in accounts for each in account.documents}
        found = await self._documents.found(list(wanted))
        self.accounts += sum(not account.more for account in accounts)
        self.documents += len(found)
        for each in found:
            ids.add(fingerprint(each), 1)
        for document_id, document in wanted.items():
            state = trusted(self._projection, found.get(document_id))
            if state is None or state.document != document:
                self._doubts[document_id] = None

    async def _settled(self, doubts: int) -> AsyncIterator[Difference]:
        """If at least so many documents are in doubt, compare them until none is."""
        if len(self._doubts) < doubts:
            return
        half, end = self._patience.left / 2, None
        moving: Container[int] | None = None
        async for ids, last in rounds(self._doubts, self._patience):
            # By half of the patience the forwarder has brought into the log whatever was stored
            # before. Only events up to that end are waited for: newer ones never stop coming.
            if self._log is not None and end is None and self._patience.left <= half:
                end = await self._log.end()
            if last and moving is None:
                moving = await self._log.behind(end) if self._log is not None else ()
            for difference in await self._recheck(ids, moving):
                yield difference

    async def _recheck(self, ids: Sequence[str], moving: Container[int] | None) -> list[Difference]:
        """Compare again. `moving`: the slots with events on the way; None before the last round."""
        found = await self._documents.found(ids)
        replayed = await self._replayed(ids)  # after the documents: never older than they
        differences: list[Difference] = []
        for each in ids:
            before = self._doubts.pop(each)
            now = diff_document(each, found.get(each), replayed[each])
            if self._right(each, before, now, moving):
                continue
            if moving is None and not _unchanged(before, now):
                first = before.newest if before else 0
                self._doubts[each] = now._replace(newest=first or now.newest)
            else:
                differences.append(Difference.of(self._projection, each, now, self._parked))
        return differences

    def _right(
        self,
        document_id: str,
        before: DocumentDiff | None,
        now: DocumentDiff,
        moving: Container[int] | None,
    ) -> bool:
        if now.what not in ("behind", "missing"):
            return now.what == "right"
        if before is not None and caught_up(now.version, before.newest):
            return True
        slot = slot_of(self._projection.account_id(document_id))
        late = moving is not None and slot in moving
        self.lagging += late
        return late

    async def _replayed(self, document_ids: Iterable[str]) -> dict[str, ReplayedAccount]:
        """By document, its account replayed from the events that are stored now."""
        accounts = {each: self._projection.account_id(each) for each in document_ids}
        stored = await self._store.load_many(set(accounts.values()))
        replayed = {
            each: ReplayedAccount(self._projection, events) for each, events in stored.items()
        }
        return {each: replayed[account] for each, account in accounts.items()}

    async def _document_ids(self, account_ids: Sequence[str]) -> list[str]:
        if not self._projection.every:
            return list(account_ids)
        stored = await self._store.load_many(account_ids)
        replayed = [ReplayedAccount(self._projection, events) for events in stored.values()]
        return [each for account in replayed for each in account.documents]


def _unchanged(before: DocumentDiff | None, now: DocumentDiff) -> bool:
    """Whether the same wrong document was there in the round before."""
    return now.what in ("differs", "extra") and before is not None and before.stamp == now.stamp
