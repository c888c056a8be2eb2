"""An account's document with its era, and what is to be written over what is found; pure."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.model.events import Event
from pipeline.model.projection import ERA, Document, Projection, Unfoldable, account_of
from pipeline.search import FoundDocument, Write


class VersionedDocument(NamedTuple):
    """A document and the era of its `_version`.

    `raised`: the era is above what was there, so that it wins over everything, and over what is
    newer, too.
    """

    era: int
    document: Document
    raised: bool = False

    def write(self) -> Write:
        document = self.document
        return Write(document["id"], self.era * ERA + document["version"], document)


class DocumentCache:
    """The last states of the accounts that were used last, up to `capacity` of them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._states: OrderedDict[str, VersionedDocument] = OrderedDict()

    def known(self, accounts: Iterable[str]) -> dict[str, VersionedDocument]:
        """Those of the accounts that it has."""
        return {account: self._states[account] for account in accounts if account in self._states}

    def keep(self, state: VersionedDocument) -> None:
        """Note what is in the index now, unless something newer is known."""
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


def believed(projection: Projection, found: FoundDocument | None) -> VersionedDocument | None:
    """A stored document as a state, if it is as we write them."""
    if found is None or not projection.sound(found.version, found.source):
        return None
    return VersionedDocument(found.version // ERA, found.source)  # type: ignore[arg-type]


def doubtful(projection: Projection, found: FoundDocument | None, document: Document) -> bool:
    """Whether a document is not one of ours, or can't be told from a lie by an older one."""
    there = believed(projection, found)
    if found is None or there is None:
        return found is not None
    newer = there.document["version"] - document["version"]
    return newer > 0 or (newer == 0 and there.document != document)


def over(
    projection: Projection, found: FoundDocument | None, document: Document
) -> VersionedDocument | None:
    """What to write so that the document is there, over one that is not `doubtful`."""
    there = believed(projection, found)
    if there is None:
        return VersionedDocument(0, document)
    if there.document["version"] < document["version"]:
        return VersionedDocument(there.era, document)
    return None


class ReplayedAccount:
    """What an account's events, as the store has them, come to."""

    def __init__(self, projection: Projection, events: Sequence[Event]) -> None:
        self.projection, self._events = projection, events
        self.advance = projection.replay(events)
        self.documents = {each["id"]: each for each in self.advance.documents}

    @property
    def poison(self) -> Unfoldable | None:
        """The event that can't be folded."""
        return self.advance.poison

    def at(self, version: int, document: Document) -> Document | None:
        """What one of the documents was when its account was at that version."""
        if self.projection.every:
            return document
        before = [event for event in self._events if event["version"] <= version]
        return self.projection.replay(before).document


def judged(
    found: FoundDocument, truth: ReplayedAccount, document_id: str
) -> VersionedDocument | None:
    """What to write over a document, by its account's events as the store had them after it.

    None: it is what they come to, or they come to nothing.
    """
    document = truth.documents.get(document_id)
    if document is None:
        return None
    there = believed(truth.projection, found)
    if there is None or there.document != truth.at(there.document["version"], document):
        return VersionedDocument(max(found.version // ERA, -1) + 1, document, raised=True)
    return over(truth.projection, found, document)


def following(
    projection: Projection, before: VersionedDocument | None, after: Iterable[Document]
) -> list[VersionedDocument]:
    """What to write of an account that came from one state to these documents."""
    if not projection.every:
        era = before.era if before else 0
        return [VersionedDocument(era, document) for document in after]
    known = before.document["version"] if before else 0
    return [VersionedDocument(0, document) for document in after if document["version"] > known]
