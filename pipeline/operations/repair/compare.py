"""Comparing documents with what the event store says, while traffic goes on; nothing is written.

What does not fit at first sight is looked at again, the document first and the events after. Then a
document that claims more than its events is a lie. One that is behind is lag, until it has had
time to show what was stored when it was first seen. Memory does not grow with the accounts.
"""

import asyncio
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Any, Final, Protocol

from pipeline.agents.rebuild.orphans import DocumentIds, possible_orphans
from pipeline.banking.balance import BALANCE
from pipeline.model.events import slot_of
from pipeline.model.histories import Replayed, histories
from pipeline.model.projection import Advance, Projection
from pipeline.operations.repair.diff import Difference, Look, WaitingDocument, look
from pipeline.search import FoundDocument
from pipeline.support.bucket_sums import Sums, fingerprint
from pipeline.tables.documents import HistoryLoader
from pipeline.tables.versioned_document import ReplayedAccount, trusted

CHUNK: Final = 500
MOST_DOUBTS: Final = 10_000
"""So many accounts are in doubt at a time; with more, the walk waits until they are not."""
PATIENCE: Final = 10.0


class ComparisonStore(HistoryLoader, Replayed, Protocol):
    """What is needed of the event store."""


class ComparisonLog(Protocol):
    """What is on its way from the event store to the projection."""

    async def end(self) -> Any:
        """Where the log ends now."""

    async def behind(self, end: Any) -> Container[int]:
        """The slots for which not all up to that end is applied."""


class DocumentLookup(DocumentIds, Protocol):
    """What is read of the index; `pipeline.search.scan.Survey` is one."""

    async def found(self, ids: Sequence[str]) -> dict[str, FoundDocument]: ...


class Comparison:
    """One comparison; it counts as it goes.

    `accounts`, `events`: read in the store; `documents`: found for them. `lagging`: accounts whose
    documents are behind and whose events are on their way, which is no difference. `patience`:
    seconds, in all, for what is behind to come right; half of it is for the forwarder. Without a
    `log` nothing is on its way. Raises what the stores raise.
    """

    def __init__(
        self,
        store: ComparisonStore,
        documents: DocumentLookup,
        log: ComparisonLog | None,
        projection: Projection = BALANCE,
        *,
        parked: WaitingDocument = frozenset(),
        patience: float = PATIENCE,
    ) -> None:
        self.accounts = self.events = self.documents = self.lagging = 0
        self._store, self._documents, self._log = store, documents, log
        self._projection = projection
        self._parked, self._patience = parked, patience
        self._doubts: dict[str, Look | None] = {}

    async def slots(self, slots: range) -> AsyncIterator[Difference]:
        """What differs among all accounts of the slots, and all documents."""
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
                truths = await self._truths(page)
                self._doubts |= {each: None for each in page if each not in truths[each].documents}
                async for difference in self._settled(MOST_DOUBTS):
                    yield difference
        async for difference in self._settled(1):
            yield difference

    async def these(self, account_ids: Iterable[str]) -> AsyncIterator[Difference]:
        """What differs among some accounts, whether they are there or not."""
        for ids in _lists(account_ids, MOST_DOUBTS):
            self.accounts += len(ids)
            self._doubts |= dict.fromkeys(await self._ids_of(ids))
            async for difference in self._settled(1):
                yield difference

    async def _compare(self, accounts: Sequence[Advance], ids: Sums) -> None:
        """At first sight; what came after the events were read is in doubt, too."""
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
        """If so many are in doubt, look until none is."""
        if len(self._doubts) < doubts:
            return
        pause, half, end = 0.1, self._patience / 2, None
        while self._doubts:
            over = self._patience <= 0
            if self._log is not None and end is None and self._patience <= half:
                end = await self._log.end()  # by now all that was stored is in the log
            moving = await self._moving(end) if over else None
            for ids in _lists(list(self._doubts), CHUNK):
                for difference in await self._look_again(ids, moving):
                    yield difference
            if self._doubts:
                await asyncio.sleep(pause)
                self._patience, pause = self._patience - pause, min(pause * 1.6, 1.0)

    async def _moving(self, end: Any) -> Container[int]:
        return await self._log.behind(end) if self._log is not None else ()

    async def _look_again(
        self, ids: Sequence[str], moving: Container[int] | None
    ) -> list[Difference]:
        """`moving`: the patience is over, and events of these slots are on their way."""
        found = await self._documents.found(ids)
        truths = await self._truths(ids)
        differences: list[Difference] = []
        for each in ids:
            before, now = self._doubts.pop(each), look(each, found.get(each), truths[each])
            if self._right(each, before, now, moving):
                continue
            if moving is None and not _steady(before, now):
                first = before.wanted if before else 0
                self._doubts[each] = now._replace(wanted=first or now.wanted)
            else:
                differences.append(Difference.of(self._projection, each, now, self._parked))
        return differences

    def _right(
        self, document_id: str, before: Look | None, now: Look, moving: Container[int] | None
    ) -> bool:
        if now.what not in ("behind", "missing"):
            return now.what == "right"
        if before is not None and now.version >= before.wanted > 0:
            return True  # it goes on
        slot = slot_of(self._projection.account_id(document_id))
        late = moving is not None and slot in moving
        self.lagging += late
        return late

    async def _truths(self, document_ids: Iterable[str]) -> dict[str, ReplayedAccount]:
        """By document, what its account comes to as the store is now."""
        accounts = {each: self._projection.account_id(each) for each in document_ids}
        stored = await self._store.load_many(set(accounts.values()))
        truths = {
            each: ReplayedAccount(self._projection, events) for each, events in stored.items()
        }
        return {each: truths[account] for each, account in accounts.items()}

    async def _ids_of(self, account_ids: Sequence[str]) -> list[str]:
        if not self._projection.every:
            return list(account_ids)
        stored = await self._store.load_many(account_ids)
        truths = [ReplayedAccount(self._projection, events) for events in stored.values()]
        return [each for truth in truths for each in truth.documents]


def _steady(before: Look | None, now: Look) -> bool:
    """Whether a lie was there a moment ago: what is behind may still come right."""
    return now.what in ("differs", "extra") and before is not None and before.stamp == now.stamp


def _lists(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, size)):
        yield some
