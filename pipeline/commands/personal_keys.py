"""The keys by which the personal fields of new events are encrypted. None is kept: a command that
needs one obtains it."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from pipeline.model.personal import SubjectKey
from pipeline.model.versioned import Versioned

T = TypeVar("T")

Keys = Mapping[str, SubjectKey]
"""Those at hand, by subject."""


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
    key = keys.get(state.id)
    if key is None or key.since != state.forgotten:
        raise KeyNeeded(state.id, state.forgotten)
    return key


async def with_keys(store: KeyStore | None, decide: Callable[[Keys | None], T]) -> T:
    """What `decide` makes with the keys that it needs, which are None if fields are not encrypted.

    It is called again after each key. Raises what it raises, `StoreUnavailable`, and
    `VersionConflict` if the state that is decided on is old: its subject was forgotten since then.
    """
    if store is None:
        return decide(None)
    keys: dict[str, SubjectKey] = {}
    while True:
        try:
            return decide(keys)
        except KeyNeeded as needed:
            keys[needed.subject] = await store.obtain(needed.subject, needed.since)
