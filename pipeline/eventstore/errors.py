"""What the event store may answer beside success."""

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import PyMongoError


class StoreUnavailable(Exception):
    """MongoDB cannot be reached, or the outcome could not be learnt in time."""


class VersionConflict(Exception):
    """Somebody else has stored this version of the account: decide again on fresh state."""

    def __init__(self, account_id: str, version: int) -> None:
        super().__init__(f"account {account_id} already has a version {version}")
        self.account_id, self.version = account_id, version


class KeyTaken(Exception):
    """An event with this idempotency key is stored already."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} is taken")
        self.key = key


class HistoryLost(Exception):
    """The changes after a resume token cannot be had any more: open at now and backfill."""


@contextmanager
def reachable() -> Iterator[None]:
    """Turn whatever the driver raises into `StoreUnavailable`."""
    try:
        yield
    except PyMongoError as error:
        raise StoreUnavailable(str(error)) from error
