"""An account's document with its era, and what to write over the document found; pure."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.model.events import Event
from pipeline.model.projection import ERA, Document, Projection, Unfoldable, account_of
from pipeline.search import FoundDocument, Write


class VersionedDocument(NamedTuple):
    """A document and the era of its `_version`.

    `raised`: the era is higher than that of the document it replaces, so that it wins over any
    version there.
    """

    era: int
    document: Document
    raised: bool = False

    def write(self) -> Write:
        document = self.document
        return Write(document["id"], self.era * ERA + document["version"], document)


class DocumentCache:
    """The documents of the accounts used last, up to `capacity` of them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._states: OrderedDict[str, VersionedDocument] = OrderedDict()

    def known(self, accounts: Iterable[str]) -> dict[str, VersionedDocument]:
        """The cached ones of these accounts."""
        return {account: self._states[account] for account in accounts if account in self._states}

    def keep(self, state: VersionedDocument) -> None:
        """Cache what is in the index now, unless a newer one is cached."""
        account = account_of(state.document)
        known = self._states.get(account)
        if (
            known is None
            or (known.era < state.era and known.document["id"] == state.document["id"])
            or known.document["version"] <= state.document["version"]
        ):
            self._states[account] = state
        self._states.move_to_end(account)
        if len(self._states) > self._capacity:
            self._states.popitem(last=False)

    def forget(self, account: str) -> None:
        self._states.pop(account, None)


def trusted(projection: Projection, found: FoundDocument | None) -> VersionedDocument | None:
    """The document found, if its fields and its `_version` are as we write them."""
    if found is None or not projection.sound(found.version, found.source):
        return None
    return VersionedDocument(found.version // ERA, found.source)  # type: ignore[arg-type]


def doubtful(projection: Projection, found: FoundDocument | None, document: Document) -> bool:
    """Whether only the event store can confirm the document found.

    It is not as we write them, is newer than `document`, or differs from it at the same version.
    """
    there = trusted(projection, found)
    if found is None or there is None:
        return found is not None
    newer = there.document["version"] - document["version"]
    return newer > 0 or (newer == 0 and there.document != document)


def resolve_write(
    projection: Projection, found: FoundDocument | None, document: Document
) -> VersionedDocument | None:
    """What to write so that `document` is there, over one that is not `doubtful`."""
    there = trusted(projection, found)
    if there is None:
        return VersionedDocument(0, document)
    if there.document["version"] < document["version"]:
        return VersionedDocument(there.era, document)
    return None


class ReplayedAccount:
    """An account as its events in the store make it."""

    def __init__(self, projection: Projection, events: Sequence[Event]) -> None:
        self.projection, self._events = projection, events
        self.advance = projection.replay(events)
        self.documents = {each["id"]: each for each in self.advance.documents}

    @property
    def poison(self) -> Unfoldable | None:
        """The event that can't be folded."""
        return self.advance.poison

    def at(self, version: int, document: Document) -> Document | None:
        """One of the documents, as it was at that version of the account."""
        if self.projection.every:
            return document
        before = [event for event in self._events if event["version"] <= version]
        return self.projection.replay(before).document


def reconcile(
    found: FoundDocument, replayed: ReplayedAccount, document_id: str
) -> VersionedDocument | None:
    """What to write over a document, by its account's events, which were read after it.

    None: it is as they make it, or they make no such document.
    """
    document = replayed.documents.get(document_id)
    if document is None:
        return None
    there = trusted(replayed.projection, found)
    if there is None or there.document != replayed.at(there.document["version"], document):
        # Somebody wrote it by hand: only a higher era wins over whatever version it has.
        return VersionedDocument(max(found.version // ERA, -1) + 1, document, raised=True)
    return resolve_write(replayed.projection, found, document)


def following(
    projection: Projection, before: VersionedDocument | None, after: Iterable[Document]
) -> list[VersionedDocument]:
    """What to write of an account that was advanced from one document to these."""
    if not projection.every:
        era = before.era if before else 0
        return [VersionedDocument(era, document) for document in after]
    known = before.document["version"] if before else 0
    return [VersionedDocument(0, document) for document in after if document["version"] > known]
