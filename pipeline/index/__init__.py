"""Elasticsearch: the client with its bulks, generations behind aliases, and the reader's side.

The driver is imported in this package only.
"""

from pipeline.index.client import Elastic
from pipeline.index.generations import Generations
from pipeline.index.glance import Glance
from pipeline.index.reader import Index, UnknownCursor
from pipeline.index.seen import Generation
from pipeline.index.values import (
    ConditionalWrite,
    Found,
    GenerationGone,
    Outcome,
    ProjectionUnavailable,
    Stamp,
    Write,
)

__all__ = [
    "ConditionalWrite",
    "Elastic",
    "Found",
    "Generation",
    "GenerationGone",
    "Generations",
    "Glance",
    "Index",
    "Outcome",
    "ProjectionUnavailable",
    "Stamp",
    "UnknownCursor",
    "Write",
]
