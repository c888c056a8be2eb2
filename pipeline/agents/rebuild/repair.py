"""Repairing documents in place, under live traffic: whatever is there becomes what the store says.

Nothing is paused. Nothing is deleted first either: tombstones would refuse the repaired documents.
Versions decide every race with live events; documents that somebody wrote by hand are overwritten
in a higher era, and orphans are deleted: documents that no events in the store make.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from pipeline.agents.backfill import BackfillProgress, backfill
from pipeline.model.events import slot_of
from pipeline.model.histories import Replayed
from pipeline.model.projection import Advance, Projection
from pipeline.support.bucket_sums import BUCKETS, Sums, fingerprint
from pipeline.tables.documents import AccountDocuments, HistoryLoader

CHUNK: Final = 500


class DocumentIds(Protocol):
    """All ids of a generation; see `pipeline.search.scan.IndexScan`."""

    def ids(self) -> AsyncIterator[list[str]]: ...


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was read, and how many documents were written and removed."""

    events: int
    accounts: int
    written: int
    removed: int


async def repair(
    document_ids: Iterable[str], store: HistoryLoader, documents: AccountDocuments
) -> Repaired:
    """Repair or remove some documents, with all others of their accounts, and free parked accounts
    that can be folded now.

    Raises `GenerationGone`, and the errors of store and parking lot; then it may be repeated.
    """
    projection, ids = documents.projection, list(dict.fromkeys(document_ids))
    events = accounts = written = removed = 0
    for chunk in (ids[i : i + CHUNK] for i in range(0, len(ids), CHUNK)):
        stored = await store.load_many({projection.account_id(each) for each in chunk})
        histories = [projection.replay(each) for each in stored.values() if each]
        written += await documents.restore(histories)
        known = {document["id"] for each in histories for document in each.documents}
        removed += await documents.remove([each for each in chunk if each not in known])
        accounts += len(histories)
        events += sum(map(len, stored.values()))
    return Repaired(events, accounts, written, removed)


async def repair_partition(
    slots: range,
    store: Replayed,
    documents: AccountDocuments,
    scan: DocumentIds,
    progress: Callable[[BackfillProgress], None] = lambda _: None,
) -> Repaired:
    """Repair all documents of the slots, and remove orphans.

    `scan` and `documents` are of the same generation; `documents` needs no cache. Raises what
    `repair` raises, and `ProjectionUnavailable`; it may be repeated.
    """
    restored, removed = _SummedDocuments(documents), 0
    report = await backfill(slots, store, restored, progress)
    # After the backfill, which sums up the ids that the store makes: all others are orphans.
    orphans = possible_orphans(documents.projection, slots, restored.ids, scan)
    async with aclosing(orphans) as pages:  # type: ignore[type-var]
        async for page in pages:
            removed += await documents.remove(page)
    return Repaired(report.events, report.accounts, report.written, removed)


class _SummedDocuments:
    """Restores documents, and sums up their ids."""

    def __init__(self, documents: AccountDocuments) -> None:
        self.ids = Sums()
        self.projection = documents.projection
        self._documents = documents

    async def restore(self, histories: Sequence[Advance]) -> int:
        written = await self._documents.restore(histories)
        for history in histories:
            for each in history.documents:
                self.ids.add(fingerprint(each["id"]), 1)
        return written


async def possible_orphans(
    projection: Projection, slots: range, known: Sums, index: DocumentIds
) -> AsyncIterator[list[str]]:
    """Lists of ids with all orphans of the slots, and some other ids that share a bucket with one.

    `known` has the sums of all ids that the store makes. The slot of a document is computed from
    its id, because the fields of an orphan may be anything. The index is scanned once, and a second
    time only if the sums differ.
    """
    async with aclosing(_of(projection, slots, index)) as pages:  # type: ignore[type-var]
        async for page in pages:
            for each in page:
                known.add(fingerprint(each), -1)
    uneven = known.uneven()
    if not uneven:
        return
    async with aclosing(_of(projection, slots, index)) as pages:  # type: ignore[type-var]
        async for page in pages:
            if doubtful := [each for each in page if fingerprint(each) % BUCKETS in uneven]:
                yield doubtful


async def _of(projection: Projection, slots: range, index: DocumentIds) -> AsyncIterator[list[str]]:
    async with aclosing(index.ids()) as pages:  # type: ignore[type-var]
        async for page in pages:
            yield [each for each in page if slot_of(projection.account_id(each)) in slots]
