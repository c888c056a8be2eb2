"""JetStream as the bank uses it: the stream `balance`, atomic batches fenced by sequence.

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
    STREAM,
    TOKEN_HEADER,
    TOKEN_SUBJECT,
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
    subject,
)

__all__ = [
    "BATCH_HEADER",
    "MARKER",
    "MESSAGE_ID",
    "OLDEST_SERVER",
    "PARTITIONS_KEY",
    "RESYNC",
    "STREAM",
    "TOKEN_HEADER",
    "TOKEN_SUBJECT",
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
    "subject",
]
