"""An account's document with its era, and what is to be written over what is found; pure."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.events import Event
from pipeline.index import Found, Write
from pipeline.projection import ERA, Document, replay, sound


class State(NamedTuple):
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


class Cache:
    """The states that were used last, up to `capacity`, by account."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._states: OrderedDict[str, State] = OrderedDict()

    def known(self, accounts: Iterable[str]) -> dict[str, State]:
        """Those of the accounts that it has."""
        return {account: self._states[account] for account in accounts if account in self._states}

    def keep(self, state: State) -> None:
        """Note what is in the index now, unless something newer is known."""
        account = state.document["id"]
        known = self._states.get(account)
        if (
            known is None
            or known.era < state.era
            or known.document["version"] <= state.document["version"]
        ):
            self._states[account] = state
        self._states.move_to_end(account)
        if len(self._states) > self._capacity:
            self._states.popitem(last=False)

    def forget(self, account: str) -> None:
        self._states.pop(account, None)


def believed(found: Found | None) -> State | None:
    """A stored document as a state, if it is as we write them."""
    if found is None or not sound(found.version, found.source):
        return None
    return State(found.version // ERA, found.source)  # type: ignore[arg-type]


def doubtful(found: Found | None, document: Document) -> bool:
    """Whether a document is not one of ours, or can't be told from a lie by an older one."""
    there = believed(found)
    if found is None or there is None:
        return found is not None
    newer = there.document["version"] - document["version"]
    return newer > 0 or (newer == 0 and there.document != document)


def over(found: Found | None, document: Document) -> State | None:
    """What to write so that the document is there, over one that is not `doubtful`."""
    there = believed(found)
    if there is None:
        return State(0, document)
    if there.document["version"] < document["version"]:
        return State(there.era, document)
    return None


def judged(found: Found, events: Sequence[Event]) -> State | None:
    """What to write over a document, by the account's events as the store had them after it.

    None: it is what they come to, or they come to nothing.
    """
    document = replay(events).document
    if document is None:
        return None
    there = believed(found)
    if there is None or there.document != _at(events, there.document["version"]):
        return State(max(found.version // ERA, -1) + 1, document, raised=True)
    return over(found, document)


def _at(events: Sequence[Event], version: int) -> Document | None:
    """The document as it is at a version, or at the last one before."""
    return replay([event for event in events if event["version"] <= version]).document
