"""Writing documents into one generation, beside other writers.

Versions decide: Elasticsearch refuses a write over a newer document. The document that refuses it
is trusted only if the event store agrees; one that somebody wrote by hand is overwritten in a
higher era. A document that Elasticsearch rejects for itself parks its account.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from pipeline.model.events import Event
from pipeline.model.projection import Document, Unfoldable, account_of
from pipeline.search import Elastic, FoundDocument, Generation
from pipeline.support.correlation import about
from pipeline.tables.counters import Counters
from pipeline.tables.version_overflow import LAST, lower_versions, overflowing, replace_tombstones
from pipeline.tables.versioned_document import (
    DocumentCache,
    ReplayedAccount,
    VersionedDocument,
    following,
    reconcile,
    trusted,
)

log = logging.getLogger(__name__)


class HistoryLoader(Protocol):
    """The event store, as far as the tables use it."""

    async def load_many(self, account_ids: Collection[str]) -> dict[str, list[Event]]: ...


class ParkingLot(Protocol):
    """The parked accounts, as far as a writer uses them; see `ParkedAccountList`."""

    def __contains__(self, account_id: str) -> bool: ...

    async def park(
        self, account_id: str, *, version: int, event_id: str, kind: str, reason: str
    ) -> object: ...

    async def drop(self, account_id: str) -> bool: ...


class Loaded(NamedTuple):
    """Documents to write by the store, and the events that can't be folded."""

    states: list[VersionedDocument]
    poisons: list[Unfoldable]


class DocumentWriter:
    """Writes a generation's documents; `cache` has those written last.

    All coroutines may raise `GenerationGone` and the errors of store and parking lot. All may be
    repeated, and run beside others, also of other processes.
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
        self._index = generation.index
        self._elastic, self._store, self._parked = elastic, store, parked
        self._counters = counters

    async def found(self, ids: Collection[str]) -> dict[str, FoundDocument]:
        """The documents as the generation has them, trusted or not, but all can be overwritten."""
        found = await self._elastic.mget(self.alias, list(ids)) if ids else {}
        while above := overflowing(found):
            await lower_versions(self._elastic, self.alias, above)
            for each in above:
                del found[each]
            found |= await self._elastic.mget(self.alias, list(above))
        return found

    async def write(self, states: Sequence[VersionedDocument]) -> frozenset[str]:
        """Write until every document is there, or a newer one of its account.

        Returns the accounts that were parked instead, because Elasticsearch rejects the document.
        """
        left, step = states, 0
        parked: set[str] = set()
        while left:
            outcome = await self._elastic.bulk(
                self.alias,
                [state.write() for state in left],
                index=self._index,
                sample=self.projection.sample,
            )
            failed = {*outcome.conflicts, *outcome.rejected}
            written = [state for i, state in enumerate(left) if i not in failed]
            self._counters.documents += len(written)
            for state in written:
                self.cache.keep(state)
            for i, reason in outcome.rejected.items():
                parked.add(await self.park(_refused(left[i].document, reason)))
            # The era's step doubles with each round: the `_version` of a tombstone can't be read,
            # and may be anything if somebody wrote it by hand.
            again, poisons = await self._settle([left[i] for i in outcome.conflicts], 1 << step)
            parked |= {await self.park(poison) for poison in poisons}
            left = again + await self._newer_than([each for each in written if each.raised])
            step = min(step + 1, 20)
        return frozenset(parked)

    async def load(
        self, before: Mapping[str, VersionedDocument | None], histories: Mapping[str, list[Event]]
    ) -> Loaded:
        """Replay accounts from the store; `before` has what is known of their documents.

        `histories`: the events that made it necessary. One that is not in the store is logged and
        not applied.
        """
        if not before:
            return Loaded([], [])
        replayed = await self._replayed(before)
        loaded = Loaded([], _poisons(replayed))
        for account_id, account in replayed.items():
            document = account.advance.document
            documents = account.advance.documents
            loaded.states.extend(following(self.projection, before[account_id], documents))
            if account.poison is None:
                newest = document["version"] if document else 0
                if newest < (wanted := histories[account_id][-1]["version"]):
                    log.error("version %d of account %s is not in the store", wanted, account_id)
        return loaded

    async def reconcile(self, found: Mapping[str, FoundDocument]) -> Loaded:
        """What to write over documents that may be wrong, by the store as it is now."""
        if not found:
            return Loaded([], [])
        replayed = await self._replayed(map(self.projection.account_id, found))
        loaded = Loaded([], _poisons(replayed))
        for document_id, there in found.items():
            account = replayed[self.projection.account_id(document_id)]
            state = reconcile(there, account, document_id)
            if state is not None:
                loaded.states.append(state)
            elif document_id in account.documents and (known := trusted(self.projection, there)):
                self.cache.keep(known)
        return loaded

    async def park(self, poison: Unfoldable) -> str:
        """Park the event's account and return its id. That is durable when this returns, so before
        later events of the account are acked."""
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
        message = "Account %s is parked at version %d: %s"
        log.error(message, account_id, event["version"], poison, extra=about([event]))
        return account_id

    async def _settle(self, conflicts: Sequence[VersionedDocument], step: int) -> Loaded:
        """Read what refused our documents; returns what to write again, and poisons."""
        if not conflicts:
            return Loaded([], [])
        # The documents before the store: a document that is newer than the events read before it
        # would look as if somebody had written it by hand.
        found = await self.found([state.document["id"] for state in conflicts])
        doubted: dict[str, FoundDocument] = {}
        deleted: dict[str, int] = {}
        for state in conflicts:
            document_id = state.document["id"]
            there = found.get(document_id)
            if there is None:  # a tombstone refuses it, with a `_version` that can't be read
                deleted[document_id] = min(state.era + step, LAST)
            elif (known := trusted(self.projection, there)) and known.document == state.document:
                self.cache.keep(known)  # another writer was faster
            else:
                doubted[document_id] = there
        refused = [state for state in conflicts if state.document["id"] in deleted]
        await replace_tombstones(self._elastic, self.alias, refused)
        restored, reconciled = await self._restore_deleted(deleted), await self.reconcile(doubted)
        repairs = restored.states + [state for state in reconciled.states if state.raised]
        self._counters.repaired += len(repairs)
        again = repairs + [state for state in reconciled.states if not state.raised]
        return Loaded(again, restored.poisons + reconciled.poisons)

    async def _restore_deleted(self, eras: Mapping[str, int]) -> Loaded:
        """Deleted documents by the store, each in the era that it is to be written in."""
        replayed = await self._replayed(map(self.projection.account_id, eras))
        loaded = Loaded([], _poisons(replayed))
        for document_id, era in eras.items():
            account = replayed[self.projection.account_id(document_id)]
            document = account.documents.get(document_id)
            if document is not None:
                loaded.states.append(VersionedDocument(era, document, raised=True))
        return loaded

    async def _newer_than(self, raised: Sequence[VersionedDocument]) -> list[VersionedDocument]:
        """Newer documents of accounts that were written in a raised era.

        A raised era wins over a newer document, too, of events that came after the store was read.
        One more reading of the store is enough: other writers notice the era from now on.
        """
        if not raised:
            return []
        replayed = await self._replayed(account_of(state.document) for state in raised)
        newest = {
            document_id: document
            for account in replayed.values()
            for document_id, document in account.documents.items()
        }
        return [
            VersionedDocument(state.era, document)
            for state in raised
            if (document := newest.get(state.document["id"]))
            and document["version"] > state.document["version"]
        ]

    async def _replayed(self, account_ids: Iterable[str]) -> dict[str, ReplayedAccount]:
        """The accounts as their events in the store make them now."""
        ids = list(dict.fromkeys(account_ids))
        stored = await self._store.load_many(ids) if ids else {}
        return {each: ReplayedAccount(self.projection, stored[each]) for each in ids}


def _poisons(replayed: Mapping[str, ReplayedAccount]) -> list[Unfoldable]:
    return [account.poison for account in replayed.values() if account.poison is not None]


def _refused(document: Document, reason: str) -> Unfoldable:
    """A document that Elasticsearch rejects, as if its last event were poison."""
    event = {
        "_id": document["event_id"],
        "account_id": account_of(document),
        "version": document["version"],
        "kind": "document",
    }
    return Unfoldable(event, f"Elasticsearch refuses the document: {reason}")
