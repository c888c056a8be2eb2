"""The keys by which a process encrypts the personal fields of new events.

A key of here is never used to read. It can be kept, because it belongs to a time between two
forgettings of its subject: an event that is decided on a state after the second one has another.
"""

from collections import OrderedDict
from typing import Any, Final, Protocol

from pipeline.model.personal import SubjectKey
from pipeline.model.versioned import Versioned

_KEPT: Final = 10_000


class KeyStore(Protocol):
    """Where keys are; see `SubjectKeys`."""

    async def obtain(self, subject: str, since: int, /) -> SubjectKey: ...


class KeyNeeded(Exception):
    """The key must be obtained, and the command be decided again."""

    def __init__(self, subject: str, since: int) -> None:
        super().__init__(f"the key of {subject} since version {since}")
        self.subject, self.since = subject, since


class PersonalKeys:
    """Those used last."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._kept: OrderedDict[str, SubjectKey] = OrderedDict()

    def of(self, state: Versioned[Any]) -> SubjectKey:
        """The key for the next event. Raises `KeyNeeded`."""
        kept = self._kept.get(state.id)
        if kept is None or kept.since != state.forgotten:
            raise KeyNeeded(state.id, state.forgotten)
        return kept

    async def obtain(self, subject: str, since: int) -> SubjectKey:
        """Have the key at hand. Raises `StoreUnavailable`, and `VersionConflict` if the state that
        was decided on is old."""
        key = await self._store.obtain(subject, since)
        self._kept[subject] = key
        self._kept.move_to_end(subject)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return key
