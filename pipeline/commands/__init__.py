"""The write engine: has commands to aggregates decided, and stores their events, each once.

A service hands it aggregates (`pipeline/model/aggregate.py`) and imports nothing else of it but
these names.
"""

from pipeline.commands.command_context import CommandContext, Condition
from pipeline.commands.errors import (
    AggregateNotFound,
    KeyReused,
    NotBegunYet,
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
    "Condition",
    "Done",
    "KeyReused",
    "NotBegunYet",
    "SameAggregate",
    "StoreRefused",
    "StoreUnavailable",
    "StoreUnguarded",
    "TooManyConflicts",
    "VersionMismatch",
    "VersionNotFound",
    "Versioned",
]
