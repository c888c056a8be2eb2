"""Elasticsearch: the client with its bulks, generations behind aliases, reads and scans."""

from pipeline.search.catalog import Generation
from pipeline.search.client import Elastic, connect
from pipeline.search.fail_fast import FailFastElastic
from pipeline.search.generations import Generations
from pipeline.search.reader import DocumentReader
from pipeline.search.shared_client import SharedClient
from pipeline.search.values import (
    ConditionalWrite,
    FoundDocument,
    GenerationGone,
    ProjectionBroken,
    ProjectionMissing,
    ProjectionUnavailable,
    Stamp,
    Write,
    WriteOutcome,
)

__all__ = [
    "ConditionalWrite",
    "DocumentReader",
    "Elastic",
    "FailFastElastic",
    "FoundDocument",
    "Generation",
    "GenerationGone",
    "Generations",
    "ProjectionBroken",
    "ProjectionMissing",
    "ProjectionUnavailable",
    "SharedClient",
    "Stamp",
    "Write",
    "WriteOutcome",
    "connect",
]
