"""The lines of a bulk request: the action, and the document."""

from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.search.values import NOBODY, ConditionalWrite, Stamp, Write


def versioned(alias: str, write: Write) -> bytes:
    """Write the document, unless one of its version or a higher one exists."""
    action = {
        "_index": alias,
        "_id": write.id,
        "version": write.version,
        "version_type": "external",
    }
    return orjson.dumps({"index": action}) + b"\n" + orjson.dumps(write.document)


def conditional(alias: str, write: ConditionalWrite) -> bytes:
    """Write the document, if its last write is the one that `write` names, or there is none."""
    action: dict[str, Any] = {"_index": alias, "_id": write.id}
    operation = "create"
    if write.stamp is not None:
        operation = "index"
        action["if_seq_no"], action["if_primary_term"] = write.stamp
    return orjson.dumps({operation: action}) + b"\n" + orjson.dumps(write.document)


def removal(alias: str, document_id: str, stamp: Stamp) -> bytes:
    """Delete the document, if its last write is `stamp`."""
    action = {
        "_index": alias,
        "_id": document_id,
        "if_seq_no": stamp.seq_no,
        "if_primary_term": stamp.primary_term,
    }
    return orjson.dumps({"delete": action})


def probe(alias: str, sample: Mapping[str, Any]) -> bytes:
    """Write nothing, but have it checked all the way: a 409 says that the alias leads to an index
    that takes such documents.

    It is refused because no document has the id, and leaves no trace.
    """
    action = {"_index": alias, "_id": NOBODY, "if_seq_no": 0, "if_primary_term": 1}
    return orjson.dumps({"index": action}) + b"\n" + orjson.dumps(sample)
