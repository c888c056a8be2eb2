"""Mending documents in place, under live traffic: whatever is there becomes what the store says.

Nothing is paused and nothing is deleted first. Versions decide every race with live events; what
somebody wrote by hand is written over in a higher era, and what has no event in the store goes.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from pipeline.agents.backfill import BackfillProgress, backfill
from pipeline.agents.rebuild.orphans import Ids, strangers
from pipeline.model.histories import Replayed
from pipeline.model.projection import Advance
from pipeline.support.bucket_sums import Sums, fingerprint
from pipeline.tables.documents import AccountDocuments, HistoryLoader

CHUNK: Final = 500


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
    """Make some documents right, and all others of their accounts, or remove them; a parked account
    goes on if it can.

    Raises `GenerationGone`, and the errors of store and parking lot; then it may be repeated.
    """
    projection, ids = documents.projection, list(dict.fromkeys(document_ids))
    events = accounts = written = removed = 0
    for chunk in (ids[i : i + CHUNK] for i in range(0, len(ids), CHUNK)):
        stored = await store.load_many({projection.account_id(each) for each in chunk})
        histories = [projection.replay(each) for each in stored.values() if each]
        written += await documents.bring(histories)
        known = {document["id"] for each in histories for document in each.documents}
        removed += await documents.remove([each for each in chunk if each not in known])
        accounts += len(histories)
        events += sum(map(len, stored.values()))
    return Repaired(events, accounts, written, removed)


async def repair_partition(
    slots: range,
    store: Replayed,
    documents: AccountDocuments,
    survey: Ids,
    progress: Callable[[BackfillProgress], None] = lambda _: None,
) -> Repaired:
    """Make all documents of the slots right, and remove those of accounts that are not there.

    `survey` and `documents` are of one generation; the cache of `documents` had better be a small
    one of its own. Raises what `mend` raises, and `ProjectionUnavailable`; it may be repeated.
    """
    seen, removed = _Seen(documents), 0
    report = await backfill(slots, store, seen, progress)
    async with aclosing(strangers(documents.projection, slots, seen.ids, survey)) as pages:  # type: ignore[type-var]
        async for page in pages:
            removed += await documents.remove(page)
    return Repaired(report.events, report.accounts, report.written, removed)


class _Seen:
    """Brings documents, and sums up whose they are."""

    def __init__(self, documents: AccountDocuments) -> None:
        self.ids = Sums()
        self.projection = documents.projection
        self._documents = documents

    async def bring(self, histories: Sequence[Advance]) -> int:
        written = await self._documents.bring(histories)
        for history in histories:
            for each in history.documents:
                self.ids.add(fingerprint(each["id"]), 1)
        return written
