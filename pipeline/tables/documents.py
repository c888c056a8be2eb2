"""The documents of accounts in one generation, made to be what the event store says.

Nothing is believed of a document because it is there: one that claims more than the history it is
compared with is judged by the store as it is now.
"""

from collections.abc import Collection, Sequence
from typing import Any

from pipeline.model.projection import Advance, Unfoldable
from pipeline.tables.document_writer import DocumentWriter, HistoryLoader, ParkingLot
from pipeline.tables.versioned_document import VersionedDocument, doubtful, over

__all__ = ["AccountDocuments", "HistoryLoader", "ParkingLot"]


class AccountDocuments(DocumentWriter):
    """A generation's documents. Everything may be repeated, and run beside live traffic."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._refused: set[str] = set()  # accounts of which a part could not be written

    async def bring(self, histories: Sequence[Advance]) -> int:
        """Make the documents what whole histories say; returns how many were to be written.

        A poison parks its account; a parked account without one is right now, and parked no more.
        Of a history that comes in parts, only the last one can say that.
        """
        documents = {each["id"]: each for history in histories for each in history.documents}
        poisons = {each.account_id: each.poison for each in histories if not each.more}
        found = await self.found(documents)
        wanted: list[VersionedDocument] = []
        doubted = {}
        for document_id, document in documents.items():
            there = found.get(document_id)
            if there is not None and doubtful(self.projection, there, document):
                doubted[document_id] = there
            elif (state := over(self.projection, there, document)) is not None:
                wanted.append(state)
        judged = await self.judge(doubted)
        poisons |= {poison.event["account_id"]: poison for poison in judged.poisons}
        parked = await self.write(wanted + judged.states)
        self._refused |= parked & {each.account_id for each in histories if each.more}
        await self._park_and_free(poisons, parked | self._refused)
        self._refused -= poisons.keys()
        return len(wanted) + len(judged.states)

    async def remove(self, ids: Collection[str]) -> int:
        """Delete those of the documents that the store knows nothing of; returns how many.

        Only the very document is deleted that was there before the store was asked.
        """
        left, removed = set(ids), 0
        while found := await self.found(left):
            truths = await self._truths(map(self.projection.account_id, found))
            ghosts = {
                each: there.stamp
                for each, there in found.items()
                if each not in truths[self.projection.account_id(each)].documents
            }
            left = await self._elastic.delete(self.alias, ghosts)
            removed += len(ghosts) - len(left)
            for each in ghosts:
                self.cache.forget(self.projection.account_id(each))
        return removed

    async def replay(self, account_id: str) -> None:
        """Make a parked account right from the store and let it go on, or park it anew."""
        events = (await self._store.load_many([account_id]))[account_id]
        self.cache.forget(account_id)
        if events:
            await self.bring([self.projection.replay(events)])
        else:
            await self._parked.drop(account_id)

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
        if free:  # what came while they were parked, and after they were read, was left to us
            stored = await self._store.load_many(free)
            await self.bring([self.projection.replay(events) for events in stored.values()])
