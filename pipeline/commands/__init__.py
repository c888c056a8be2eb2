"""The write engine: has commands to aggregates decided, and stores their events, each once.

A service or a program hands it an application (`pipeline/application.py`) and imports nothing else
of it but these names.
"""

from pipeline.commands.command_context import CommandContext, Condition
from pipeline.commands.command_store import CommandStore
from pipeline.commands.connecting import connect, connection_to
from pipeline.commands.connection import Connection
from pipeline.commands.errors import (
    AggregateNotFound,
    KeyReused,
    NotBegunYet,
    NotInApplication,
    OfAnotherAggregate,
    SameAggregate,
    TooManyConflicts,
    VersionMismatch,
    VersionNotFound,
)
from pipeline.commands.execution import Done
from pipeline.commands.service import CommandService
from pipeline.eventstore import StoreRefused, StoreUnavailable, StoreUnguarded
from pipeline.model.versioned import AggregateUnreadable, Versioned

__all__ = [
    "AggregateNotFound",
    "AggregateUnreadable",
    "CommandContext",
    "CommandService",
    "CommandStore",
    "Condition",
    "Connection",
    "Done",
    "KeyReused",
    "NotBegunYet",
    "NotInApplication",
    "OfAnotherAggregate",
    "SameAggregate",
    "StoreRefused",
    "StoreUnavailable",
    "StoreUnguarded",
    "TooManyConflicts",
    "VersionMismatch",
    "VersionNotFound",
    "Versioned",
    "connect",
    "connection_to",
]
