"""Faust over NATS JetStream: `faust.App(broker='nats://…')`. See docs/bridge.md."""

from pipeline.bridge.batch import Batch, BatchSchema
from pipeline.bridge.feed import Feed
from pipeline.bridge.options import (
    Assign,
    Assignment,
    BeforeCommit,
    Everything,
    Options,
    configure,
    options_of,
)
from pipeline.bridge.private import writing_tables
from pipeline.bridge.transport import Transport

__all__ = [
    "Assign",
    "Assignment",
    "Batch",
    "BatchSchema",
    "BeforeCommit",
    "Everything",
    "Feed",
    "Options",
    "Transport",
    "configure",
    "options_of",
    "writing_tables",
]
