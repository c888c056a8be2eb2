"""Restoring a generation's documents from the event store, whatever state they are in.

A document is never trusted because it is there: one that is newer than the history it is compared
with is compared again, with the store as it is now.
"""

from collections.abc import Collection, Sequence
from typing import Any, Self

from pipeline.model.projection import Advance, Unfoldable
from pipeline.search import Elastic, Generation
from pipeline.tables.counters import Counters
from pipeline.tables.document_writer import DocumentWriter, HistoryLoader, ParkingLot
from pipeline.tables.versioned_document import (
    DocumentCache,
    VersionedDocument,
    doubtful,
    resolve_write,
)

__all__ = ["AccountDocuments", "HistoryLoader", "ParkingLot"]


class AccountDocuments(DocumentWriter):
    """A generation's documents. All methods may be repeated, and run beside live traffic."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._refused: set[str] = set()  # accounts with a document that could not be written

    @classmethod
    def uncached(
        cls, elastic: Elastic, generation: Generation, store: HistoryLoader, parked: ParkingLot
    ) -> Self:
        """For a replay or repair, which writes each document once: nothing is cached or counted."""
        return cls(elastic, generation, store, parked, Counters(), DocumentCache(0))

    async def restore(self, histories: Sequence[Advance]) -> int:
        """Make documents what whole histories say; returns how many were to be written.

        A poison event parks its account; a parked account without one is right now, and not parked
        any more. Of a history that comes in parts, only the last part decides that.
        """
        # Most documents are right. Only for the doubtful ones the store is read once more.
        documents = {each["id"]: each for history in histories for each in history.documents}
        poisons = {each.account_id: each.poison for each in histories if not each.more}
        found = await self.found(documents)
        wanted: list[VersionedDocument] = []
        doubted = {}
        for document_id, document in documents.items():
            there = found.get(document_id)
            if there is not None and doubtful(self.projection, there, document):
                doubted[document_id] = there
            elif (state := resolve_write(self.projection, there, document)) is not None:
                wanted.append(state)
        reconciled = await self.reconcile(doubted)
        poisons |= {poison.event["account_id"]: poison for poison in reconciled.poisons}
        parked = await self.write(wanted + reconciled.states)
        self._refused |= parked & {each.account_id for each in histories if each.more}
        # After the write: parked is what it refused, and freed what is right by now.
        await self._park_and_free(poisons, parked | self._refused)
        self._refused -= poisons.keys()
        return len(wanted) + len(reconciled.states)

    async def remove(self, ids: Collection[str]) -> int:
        """Delete those of the documents that have no events in the store; returns how many."""
        # A document is deleted by the stamp it had before the store was read: were its account
        # created after that, the document has a newer stamp and stays.
        left, removed = set(ids), 0
        while found := await self.found(left):
            replayed = await self._replayed(map(self.projection.account_id, found))
            orphans = {
                each: there.stamp
                for each, there in found.items()
                if each not in replayed[self.projection.account_id(each)].documents
            }
            left = await self._elastic.delete(self.alias, orphans)
            removed += len(orphans) - len(left)
            for each in orphans:
                self.cache.forget(self.projection.account_id(each))
        return removed

    async def replay(self, account_id: str) -> None:
        """Restore a parked account from the store and free it, or park it again."""
        events = (await self._store.load_many([account_id]))[account_id]
        self.cache.forget(account_id)
        history = self.projection.replay(events)
        if history.document is None and history.poison is None:
            await self._parked.drop(account_id)
        else:
            await self.restore([history])

    async def _park_and_free(
        self, poisons: dict[str, Unfoldable | None], parked: Collection[str]
    ) -> None:
        for poison in poisons.values():
            if poison is not None:
                await self.park(poison)
        right = [
            account
            for account, poison in poisons.items()
            if poison is None and account in self._parked and account not in parked
        ]
        for account in right:
            await self._parked.drop(account)
        free = [account for account in right if account not in self._parked]
        if free:  # events that came since they were read were skipped, because they were parked
            stored = await self._store.load_many(free)
            await self.restore([self.projection.replay(events) for events in stored.values()])
