"""The errors of the event store."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pymongo.errors import PyMongoError


class StoreUnavailable(Exception):
    """MongoDB cannot be reached, or the outcome of a write is not known in time."""


class StoreRefused(Exception):
    """MongoDB refuses the write for good: nothing is stored, and a retry would not help.

    `whole`: no document is the reason, so every other write is refused as well.
    """

    def __init__(self, reason: str, *, whole: bool = False) -> None:
        super().__init__(reason)
        self.whole = whole


class StoreUnguarded(Exception):
    """A guard of the collection `events` can't be trusted, so nothing is stored.

    `faults`: what is wrong, by the name of the guard, without data of accounts.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("; ".join(faults.values()))
        self.faults = dict(faults)


class VersionConflict(Exception):
    """Another writer has stored this version of the account: decide again on fresh state."""

    def __init__(self, account_id: str, version: int) -> None:
        super().__init__(f"account {account_id} already has a version {version}")
        self.account_id, self.version = account_id, version


class KeyTaken(Exception):
    """An event with this idempotency key is stored already."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} is taken")
        self.key = key


class HistoryLost(Exception):
    """MongoDB no longer has the changes after a resume token: open at now and backfill."""


@contextmanager
def reachable() -> Iterator[None]:
    """Convert every error of the driver to `StoreUnavailable`."""
    try:
        yield
    except PyMongoError as error:
        raise StoreUnavailable(str(error)) from error
