"""The keys by which the personal fields of new events are encrypted."""

from typing import Any, Protocol

from pipeline.model.personal import SubjectKey
from pipeline.model.versioned import Versioned


class KeyStore(Protocol):
    """Where keys are; see `SubjectKeys`."""

    async def obtain(self, subject: str, since: int, /) -> SubjectKey: ...


class Keys:
    """Those that the commands of one batch need, each obtained once. Kept no longer than that."""

    __slots__ = ("_obtained", "_store")

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._obtained: dict[tuple[str, int], SubjectKey] = {}

    async def of(self, state: Versioned[Any]) -> SubjectKey:
        """The key of the next event after this state; a batch may have some before and some after a
        forgetting.

        Raises `StoreUnavailable`, and `VersionConflict` if the state is old: its subject was
        forgotten since then.
        """
        place = state.id, state.forgotten
        if (key := self._obtained.get(place)) is None:
            key = self._obtained[place] = await self._store.obtain(*place)
        return key
