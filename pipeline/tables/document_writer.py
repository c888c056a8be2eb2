"""Writing the documents of accounts into one generation, whoever else writes there.

Versions decide: a write is refused by what is newer. What refuses it is believed only if the event
store says the same; what somebody wrote by hand is written over, in a higher era. What
Elasticsearch will not have parks its account.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from pipeline.model.events import Event
from pipeline.model.projection import Document, Unfoldable, account_of
from pipeline.search import Elastic, FoundDocument, Generation
from pipeline.support.correlation import about
from pipeline.tables.counters import Counters
from pipeline.tables.version_overflow import LAST, dig_up, lower, stuck
from pipeline.tables.versioned_document import (
    DocumentCache,
    ReplayedAccount,
    VersionedDocument,
    believed,
    following,
    judged,
)

log = logging.getLogger(__name__)


class HistoryLoader(Protocol):
    """What the table needs of the event store."""

    async def load_many(self, account_ids: Collection[str]) -> dict[str, list[Event]]: ...


class ParkingLot(Protocol):
    """What a writer needs of the parked accounts (`pipeline/tables/parked_accounts.py`)."""

    def __contains__(self, account_id: str) -> bool: ...

    async def park(
        self, account_id: str, *, version: int, event_id: str, kind: str, reason: str
    ) -> object: ...

    async def drop(self, account_id: str) -> bool: ...


class Loaded(NamedTuple):
    """What is to be written by the store, and the histories that can't be folded to their end."""

    states: list[VersionedDocument]
    poisons: list[Unfoldable]


class DocumentWriter:
    """Writes a generation's documents; `cache` has the states that were written last.

    Every coroutine may raise `GenerationGone` and the errors of store and parking lot; all may be
    repeated, and run beside others, of other processes, too.
    """

    def __init__(
        self,
        elastic: Elastic,
        generation: Generation,
        store: HistoryLoader,
        parked: ParkingLot,
        counters: Counters,
        cache: DocumentCache,
    ) -> None:
        self.alias, self.projection, self.cache = generation.alias, generation.projection, cache
        self._elastic, self._store, self._parked = elastic, store, parked
        self._counters = counters

    async def found(self, ids: Collection[str]) -> dict[str, FoundDocument]:
        """The documents as the generation has them, believable or not; all can be written over."""
        found = await self._elastic.mget(self.alias, list(ids)) if ids else {}
        while above := stuck(found):
            await lower(self._elastic, self.alias, above)
            for each in above:
                del found[each]
            found |= await self._elastic.mget(self.alias, list(above))
        return found

    async def write(self, states: Sequence[VersionedDocument]) -> frozenset[str]:
        """Write until every document is there, or a newer one of its account.

        Returns the accounts that were parked instead: Elasticsearch will not have the document.
        """
        left, step = states, 0
        parked: set[str] = set()
        while left:
            outcome = await self._elastic.bulk(self.alias, [state.write() for state in left])
            failed = {*outcome.conflicts, *outcome.rejected}
            written = [state for i, state in enumerate(left) if i not in failed]
            self._counters.documents += len(written)
            for state in written:
                self.cache.keep(state)
            for i, reason in outcome.rejected.items():
                parked.add(await self.park(_refused(left[i].document, reason)))
            # The era's step doubles: a tombstone hides its `_version`, and a hand may write any.
            again, poisons = await self._settle([left[i] for i in outcome.conflicts], 1 << step)
            parked |= {await self.park(poison) for poison in poisons}
            left = again + await self._overtaken(written)
            step = min(step + 1, 20)
        return frozenset(parked)

    async def load(
        self, before: Mapping[str, VersionedDocument | None], histories: Mapping[str, list[Event]]
    ) -> Loaded:
        """What accounts come to by the store, over the states that are known of them.

        `histories` are the events that asked for it; what the store does not know is not shown.
        """
        truths = await self._truths(before)
        loaded = Loaded([], _poisons(truths))
        for account, truth in truths.items():
            document, poison = truth.advance.document, truth.poison
            documents = truth.advance.documents
            loaded.states.extend(following(self.projection, before[account], documents))
            if poison is None:
                newest = document["version"] if document else 0
                if newest < (wanted := histories[account][-1]["version"]):
                    log.error("version %d of account %s is not in the store", wanted, account)
        return loaded

    async def judge(self, found: Mapping[str, FoundDocument]) -> Loaded:
        """What to write over documents that may be lies, by the store as it is after them."""
        truths = await self._truths(map(self.projection.account_id, found))
        loaded = Loaded([], _poisons(truths))
        for document_id, there in found.items():
            truth = truths[self.projection.account_id(document_id)]
            state = judged(there, truth, document_id)
            if state is not None:
                loaded.states.append(state)
            elif document_id in truth.documents and (known := believed(self.projection, there)):
                self.cache.keep(known)
        return loaded

    async def park(self, poison: Unfoldable) -> str:
        """Let the account wait, and return it: durable before what comes after it is acked."""
        event = poison.event
        account_id: str = event["account_id"]
        self.cache.forget(account_id)
        await self._parked.park(
            account_id,
            version=event["version"],
            event_id=str(event.get("_id")),
            kind=str(event.get("kind")),
            reason=poison.reason,
        )
        self._counters.parked += 1
        said = "Account %s is parked at version %d: %s"
        log.error(said, account_id, event["version"], poison, extra=about([event]))
        return account_id

    async def _settle(self, conflicts: Sequence[VersionedDocument], step: int) -> Loaded:
        """Look at what refused our documents; what is to be written again, and poisons."""
        found = await self.found([state.document["id"] for state in conflicts])
        doubted: dict[str, FoundDocument] = {}
        buried: dict[str, int] = {}
        for state in conflicts:
            document_id = state.document["id"]
            there = found.get(document_id)
            if there is None:
                buried[document_id] = min(state.era + step, LAST)
            elif (known := believed(self.projection, there)) and known.document == state.document:
                self.cache.keep(known)
            else:
                doubted[document_id] = there
        await dig_up(
            self._elastic, self.alias, [s for s in conflicts if s.document["id"] in buried]
        )
        revived, judged = await self._revive(buried), await self.judge(doubted)
        repairs = revived.states + [state for state in judged.states if state.raised]
        self._counters.repaired += len(repairs)
        again = repairs + [state for state in judged.states if not state.raised]
        return Loaded(again, revived.poisons + judged.poisons)

    async def _revive(self, eras: Mapping[str, int]) -> Loaded:
        """Documents that were deleted, by the store, each in the era it is to be written in."""
        truths = await self._truths(map(self.projection.account_id, eras))
        loaded = Loaded([], _poisons(truths))
        for document_id, era in eras.items():
            document = truths[self.projection.account_id(document_id)].documents.get(document_id)
            if document is not None:
                loaded.states.append(VersionedDocument(era, document, raised=True))
        return loaded

    async def _overtaken(self, written: Sequence[VersionedDocument]) -> list[VersionedDocument]:
        """What went over a newer document, for its era was raised: events came since it was read.

        From now on no writer gets past that era unseen, so that one look at the store is enough.
        """
        raised = [state for state in written if state.raised]
        truths = await self._truths(account_of(state.document) for state in raised)
        newest = {
            document_id: document
            for truth in truths.values()
            for document_id, document in truth.documents.items()
        }
        return [
            VersionedDocument(state.era, document)
            for state in raised
            if (document := newest.get(state.document["id"]))
            and document["version"] > state.document["version"]
        ]

    async def _truths(self, accounts: Iterable[str]) -> dict[str, ReplayedAccount]:
        """What the store says of the accounts now."""
        ids = list(dict.fromkeys(accounts))
        stored = await self._store.load_many(ids) if ids else {}
        return {account: ReplayedAccount(self.projection, stored[account]) for account in ids}


def _poisons(truths: Mapping[str, ReplayedAccount]) -> list[Unfoldable]:
    return [truth.poison for truth in truths.values() if truth.poison is not None]


def _refused(document: Document, reason: str) -> Unfoldable:
    """A document that Elasticsearch will not have, told as of its last event."""
    event = {
        "_id": document["event_id"],
        "account_id": account_of(document),
        "version": document["version"],
        "kind": "document",
    }
    return Unfoldable(event, f"Elasticsearch refuses the document: {reason}")
