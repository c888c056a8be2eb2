"""MongoDB as the event store. The driver is imported in this one package."""

from pipeline.eventstore.changes import Changes, token_time
from pipeline.eventstore.correlated import TookTooLong
from pipeline.eventstore.errors import HistoryLost, KeyTaken, StoreUnavailable, VersionConflict
from pipeline.eventstore.outcomes import Stored
from pipeline.eventstore.store import EventStore
from pipeline.eventstore.strays import Strays
from pipeline.eventstore.unread import Unread

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
