"""The testing kit: for tests of what somebody builds on the engine."""

from typing import TYPE_CHECKING, Any

from pipeline.testing.aggregates import given
from pipeline.testing.processes import reacted
from pipeline.testing.projections import projected

if TYPE_CHECKING:
    from pipeline.testing.event_store import InMemoryEventStore

__all__ = ["InMemoryEventStore", "given", "projected", "reacted"]


def __getattr__(name: str) -> Any:
    """The store when it is asked for: MongoDB's driver takes long to import, and pytest imports
    this package in each run, for the plugin."""
    if name != "InMemoryEventStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.testing.event_store import InMemoryEventStore

    return InMemoryEventStore
