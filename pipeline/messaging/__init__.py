"""JetStream as the pipeline uses it: one stream is the log; atomic batches fenced by sequence.

The reader's side, a feed of one partition, is `pipeline/bridge/feed.py`.
"""

from pipeline.messaging.client import JetStream
from pipeline.messaging.connection import OLDEST_SERVER, log_reconnected
from pipeline.messaging.streams import ensure_changelog, ensure_partitioned
from pipeline.messaging.values import (
    BATCH_HEADER,
    MARKER,
    MESSAGE_ID,
    PARTITIONS_KEY,
    RESYNC,
    TOKEN_HEADER,
    DuplicateMessage,
    JetStreamError,
    OutgoingMessage,
    Refused,
    ServerTooOld,
    StorageFull,
    StoredMessage,
    StreamState,
    TooManyReplicas,
    WrongLastSequence,
    checked,
)

__all__ = [
    "BATCH_HEADER",
    "MARKER",
    "MESSAGE_ID",
    "OLDEST_SERVER",
    "PARTITIONS_KEY",
    "RESYNC",
    "TOKEN_HEADER",
    "DuplicateMessage",
    "JetStream",
    "JetStreamError",
    "OutgoingMessage",
    "Refused",
    "ServerTooOld",
    "StorageFull",
    "StoredMessage",
    "StreamState",
    "TooManyReplicas",
    "WrongLastSequence",
    "checked",
    "ensure_changelog",
    "ensure_partitioned",
    "log_reconnected",
]
