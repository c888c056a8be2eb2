"""MongoDB as the event store. Only this package imports PyMongo and bson; only `driver`, Motor."""

from pipeline.eventstore.change_backlog import ChangeBacklog
from pipeline.eventstore.changes import Changes, token_time
from pipeline.eventstore.correlated import TookTooLong
from pipeline.eventstore.errors import (
    HistoryLost,
    KeyTaken,
    StoreRefused,
    StoreUnavailable,
    StoreUnguarded,
    VersionConflict,
)
from pipeline.eventstore.invalid_documents import InvalidDocuments
from pipeline.eventstore.store import EventStore
from pipeline.eventstore.walk_all import FIRST, Place, place_of
from pipeline.eventstore.write_results import AppendResult

__all__ = [
    "FIRST",
    "AppendResult",
    "ChangeBacklog",
    "Changes",
    "EventStore",
    "HistoryLost",
    "InvalidDocuments",
    "KeyTaken",
    "Place",
    "StoreRefused",
    "StoreUnavailable",
    "StoreUnguarded",
    "TookTooLong",
    "VersionConflict",
    "place_of",
    "token_time",
]
