"""The keys by which the personal fields of new events are encrypted. None is kept: a command that
needs one obtains it."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from pipeline.model.personal import SubjectKey
from pipeline.model.versioned import Versioned

T = TypeVar("T")

Keys = Mapping[tuple[str, int], SubjectKey]
"""Those at hand, by subject and `since`: a batch may have events before and after a forgetting."""


class KeyStore(Protocol):
    """Where keys are; see `SubjectKeys`."""

    async def obtain(self, subject: str, since: int, /) -> SubjectKey: ...


class KeyNeeded(Exception):
    """The key must be obtained, and the command be decided again."""

    def __init__(self, subject: str, since: int) -> None:
        super().__init__(f"the key of {subject} since version {since}")
        self.subject, self.since = subject, since


def key_for(state: Versioned[Any], keys: Keys) -> SubjectKey:
    """The key for the next event. Raises `KeyNeeded`."""
    if (key := keys.get((state.id, state.forgotten))) is None:
        raise KeyNeeded(state.id, state.forgotten)
    return key


async def with_keys(store: KeyStore | None, decide: Callable[[Keys | None], T]) -> T:
    """What `decide` makes with the keys that it needs, which are None if fields are not encrypted.

    It is called again after each key. Raises what it raises, `StoreUnavailable`, and
    `VersionConflict` if the state that is decided on is old: its subject was forgotten since then.
    """
    if store is None:
        return decide(None)
    keys: dict[tuple[str, int], SubjectKey] = {}
    while True:
        try:
            return decide(keys)
        except KeyNeeded as needed:
            subject, since = needed.subject, needed.since
            keys[subject, since] = await store.obtain(subject, since)
