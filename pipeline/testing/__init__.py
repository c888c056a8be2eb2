"""The testing kit: for tests of what somebody builds on the engine."""

from pipeline.testing.aggregates import given
from pipeline.testing.projections import projected

__all__ = ["given", "projected"]
