"""What became of a write: what the server's errors mean, and what is stored for good.

A reply may be lost while its write has landed. Nothing is guessed then: the same documents are
inserted again under the same ids, and a duplicate key is success when our own id is stored.
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
Refused: TypeAlias = Mapping[str, Any]  # one of the server's writeErrors

MAX_BYTES: Final = 256 * 1024
"""A larger event is refused: it has to fit into one message of the stream, too."""

DUPLICATE_KEY: Final = 11000
WRITE_CONFLICT: Final = 112
"""Lost against an open transaction: nothing is decided yet."""


class AppendResult(NamedTuple):
    """Of events in a row the first `number` are stored. The next one is not because of `error`,
    and those after it neither; or nobody knows, if the error is `StoreUnavailable`."""

    number: int
    error: Exception | None = None


def encode(event: Event) -> RawBSONDocument:
    """Encode at once: what can't be encoded fails its own caller, not the group it would be in."""
    encoded = bson.encode(event)
    if len(encoded) > MAX_BYTES:
        raise ValueError(f"an event of {len(encoded)} bytes; at most {MAX_BYTES} can be stored")
    return RawBSONDocument(encoded)


def refusals(error: BulkWriteError) -> dict[int, Refused]:
    """The write errors by the index of the document; raises it if it is about anything else."""
    if error.details["writeConcernErrors"]:
        raise error
    return {refused["index"]: refused for refused in error.details["writeErrors"]}


def refusal(event: Event, refused: Refused) -> Exception:
    """What a server's write error means to whoever wanted the event stored."""
    if refused["code"] != DUPLICATE_KEY:
        return StoreUnavailable(str(refused["errmsg"]))
    if "idempotency_key" in (refused.get("keyPattern") or refused["errmsg"].split("dup key")[0]):
        return KeyTaken(event["idempotency_key"])
    return VersionConflict(event["account_id"], event["version"])


def proven(events: Collection) -> Collection:
    """Not only read on the primary but proven durable: what it shows can't be rolled back."""
    return events.with_options(read_concern=ReadConcern("linearizable"))


async def ours(events: Collection, refused: Iterable[Event]) -> set[str]:
    """The ids of those that were refused because they are stored already, and durably so."""
    ids = [event["_id"] for event in refused]
    if not ids:
        return set()
    found = proven(events).find({"_id": {"$in": ids}}, {"_id": 1})
    return {document["_id"] for document in await found.to_list(None)}
