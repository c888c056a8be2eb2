"""MongoDB as the event store. The driver is imported in this one package."""

from pipeline.eventstore.change_backlog import Unread
from pipeline.eventstore.changes import Changes, token_time
from pipeline.eventstore.correlated import TookTooLong
from pipeline.eventstore.errors import HistoryLost, KeyTaken, StoreUnavailable, VersionConflict
from pipeline.eventstore.invalid_documents import Strays
from pipeline.eventstore.store import EventStore
from pipeline.eventstore.write_results import Stored

__all__ = [
    "Changes",
    "EventStore",
    "HistoryLost",
    "KeyTaken",
    "StoreUnavailable",
    "Stored",
    "Strays",
    "TookTooLong",
    "Unread",
    "VersionConflict",
    "token_time",
]
