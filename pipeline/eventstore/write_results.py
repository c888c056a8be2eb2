"""The outcome of a write: what MongoDB's errors mean, and which events are stored durably.

A reply may be lost although its write succeeded. So the writer inserts the same documents with the
same ids again; a duplicate key error means success if the event's own id is stored.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, cast

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, ConfigurationError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from pipeline.eventstore import driver
from pipeline.eventstore.errors import KeyTaken, StoreRefused, StoreUnavailable, VersionConflict
from pipeline.eventstore.indexes import KEY, ORDER
from pipeline.model.derived import as_stored
from pipeline.model.events import Event

Client: TypeAlias = driver.Client
Collection: TypeAlias = "driver.Collection[Event]"
Refused: TypeAlias = Mapping[str, Any]  # an entry of `writeErrors` in a reply

MAX_BYTES: Final = 256 * 1024
"""The largest event: it must also fit into one message of the stream."""

DUPLICATE_KEY: Final = 11000
WRITE_CONFLICT: Final = 112
"""An open transaction has written this key: whether it commits is not known yet."""

DEFINITE: Final = frozenset(
    {
        2,  # BadValue
        9,  # FailedToParse
        13,  # Unauthorized
        14,  # TypeMismatch
        18,  # AuthenticationFailed
        20,  # IllegalOperation
        22,  # InvalidBSON
        52,  # DollarPrefixedFieldName
        53,  # InvalidIdField
        59,  # CommandNotFound
        67,  # CannotCreateIndex, also for a document that an index can't take
        72,  # InvalidOptions
        73,  # InvalidNamespace
        115,  # CommandNotSupported
        121,  # DocumentValidationFailure
        166,  # CommandNotSupportedOnView
        171,  # CannotIndexParallelArrays
        197,  # InvalidIndexSpecificationOption
        263,  # OperationNotSupportedInTransaction
        8000,  # AtlasError, such as a quota
        10003,  # CannotGrowDocumentInCappedNamespace
        10334,  # BSONObjectTooLarge
        14031,  # OutOfDiskSpace
        17280,  # KeyTooLong
    }
)
"""Codes of the server's that mean: nothing is stored, and the same write fails again. All others
may pass, such as NotWritablePrimary."""
_OF_A_DOCUMENT: Final = frozenset({2, 9, 14, 22, 52, 53, 67, 121, 171, 10334, 17280})
"""Those that a document can cause. The others concern every write: its server, rights or room."""
_PASSING: Final = (
    "TransientTransactionError",
    "UnknownTransactionCommitResult",
    "RetryableWriteError",
)
_LONGEST_REASON: Final = 200


class AppendResult(NamedTuple):
    """The first `number` events of a row are stored; the others are not, because of `error`.

    If the error is `StoreUnavailable`, the others may be stored.
    """

    number: int
    error: Exception | None = None


def encode(event: Event) -> RawBSONDocument:
    """Encode an event before it is queued, so that an error fails its caller and not a group."""
    encoded = bson.encode(as_stored(event))
    if len(encoded) > MAX_BYTES:
        raise ValueError(f"an event of {len(encoded)} bytes; at most {MAX_BYTES} can be stored")
    return RawBSONDocument(encoded)


def decode(encoded: bytes) -> Event:
    """An event that was encoded."""
    return cast(Event, bson.decode(encoded))


def refusals(error: BulkWriteError) -> dict[int, Refused]:
    """The write errors by the index of their document; raises `error` on write concern errors.

    After those, documents without a write error may not be durable.
    """
    if error.details["writeConcernErrors"]:
        raise error
    return {refused["index"]: refused for refused in error.details["writeErrors"]}


def refusal(event: Event, refused: Refused) -> Exception:
    """The exception for the caller whose event the server refused."""
    if refused["code"] in DEFINITE:
        return _refused(refused)
    if refused["code"] != DUPLICATE_KEY:
        return StoreUnavailable(str(refused["errmsg"]))
    pattern = refused.get("keyPattern")
    if KEY in (pattern or refused["errmsg"].split("dup key")[0]):
        return KeyTaken(event["idempotency_key"])
    if pattern and [*pattern] != [field for field, _ in ORDER]:
        return StoreRefused(_reason(refused))  # somebody has made another unique index
    return VersionConflict(event["account_id"], event["version"])


def refused_for_good(error: PyMongoError) -> StoreRefused | None:
    """The refusal of a whole command, if it is definite; None if another try may help."""
    if any(map(error.has_error_label, _PASSING)):
        return None
    if isinstance(error, OperationFailure) and error.code in DEFINITE:
        return _refused({"errmsg": str(error), "code": error.code, **(error.details or {})})
    if isinstance(error, ConfigurationError):
        return StoreRefused(str(error), whole=True)
    return None


def _refused(refused: Refused) -> StoreRefused:
    return StoreRefused(_reason(refused), whole=refused.get("code") not in _OF_A_DOCUMENT)


def _reason(refused: Refused) -> str:
    """The server's words without what it quotes of documents and commands, and its code."""
    said = str(refused.get("errmsg", "")).partition(" dup key")[0].partition("{")[0]
    code = refused.get("codeName") or f"code {refused.get('code')}"
    return f"{said.strip(' :')[:_LONGEST_REASON]} ({code})"


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
