"""The outcome of a write: what MongoDB's errors mean, and which events are stored durably.

A reply may be lost although its write succeeded. So the writer inserts the same documents with the
same ids again; a duplicate key error means success if the event's own id is stored.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern

from pipeline.eventstore import driver
from pipeline.eventstore.errors import KeyTaken, StoreUnavailable, VersionConflict
from pipeline.model.events import Event

Client: TypeAlias = driver.Client
Collection: TypeAlias = "driver.Collection[Event]"
Refused: TypeAlias = Mapping[str, Any]  # an entry of `writeErrors` in a reply

MAX_BYTES: Final = 256 * 1024
"""The largest event: it must also fit into one message of the stream."""

DUPLICATE_KEY: Final = 11000
WRITE_CONFLICT: Final = 112
"""An open transaction has written this key: whether it commits is not known yet."""


class AppendResult(NamedTuple):
    """The first `number` events of a row are stored; the others are not, because of `error`.

    If the error is `StoreUnavailable`, the others may be stored.
    """

    number: int
    error: Exception | None = None


def encode(event: Event) -> RawBSONDocument:
    """Encode an event before it is queued, so that an error fails its caller and not a group."""
    encoded = bson.encode(event)
    if len(encoded) > MAX_BYTES:
        raise ValueError(f"an event of {len(encoded)} bytes; at most {MAX_BYTES} can be stored")
    return RawBSONDocument(encoded)


def refusals(error: BulkWriteError) -> dict[int, Refused]:
    """The write errors by the index of their document; raises `error` on write concern errors.

    After those, documents without a write error may not be durable.
    """
    if error.details["writeConcernErrors"]:
        raise error
    return {refused["index"]: refused for refused in error.details["writeErrors"]}


def refusal(event: Event, refused: Refused) -> Exception:
    """The exception for the caller whose event the server refused."""
    if refused["code"] != DUPLICATE_KEY:
        return StoreUnavailable(str(refused["errmsg"]))
    if "idempotency_key" in (refused.get("keyPattern") or refused["errmsg"].split("dup key")[0]):
        return KeyTaken(event["idempotency_key"])
    return VersionConflict(event["account_id"], event["version"])


def linearizable(events: Collection) -> Collection:
    """The collection for reads whose result can't be rolled back.

    A plain read on the primary also shows writes that no majority has yet.
    """
    return events.with_options(read_concern=ReadConcern("linearizable"))


async def stored_ids(events: Collection, refused: Iterable[Event]) -> set[str]:
    """The ids of the refused events that are stored already, durably, by an earlier try."""
    ids = [event["_id"] for event in refused]
    if not ids:
        return set()
    found = linearizable(events).find({"_id": {"$in": ids}}, {"_id": 1})
    return {document["_id"] for document in await found.to_list(None)}
