"""The envelope of events from the store to the agents, and the slot of an account.

An event is a plain document with the same keys in MongoDB and on the stream. On the stream it is
JSON and `created_at` is RFC 3339 in UTC; in MongoDB `created_at` is a naive UTC `datetime`.
"""

import re
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NotRequired, TypedDict

import orjson

from pipeline.model.ulids import new_ulid
from pipeline.model.upcasters import newest, upcast

SLOTS: Final = 1024
ACCOUNT_ID: Final = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
"""A ULID, as a pattern for routes and models."""

AGGREGATE_ID: Final = "[A-Za-z0-9_-]{1,64}"
"""An id that every server accepts in a subject, a key or a path, as a pattern. Ours are ULIDs."""

_ID: Final = re.compile(AGGREGATE_ID)
_EPOCH: Final = datetime(1970, 1, 1)
_FNV_OFFSET, _FNV_PRIME = 2166136261, 16777619
_JSON = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


class Actor(TypedDict):
    """Who caused an event: the id of an API key, and its role at that time."""

    key: str
    role: str


class Event(TypedDict):
    """The envelope. `version` counts 1, 2, 3, … by account; `schema` is the body's version.

    `request` goes with `idempotency_key`: the fingerprint of the command that had that key.
    `traceparent` is there if the command's request was traced (`pipeline/support/tracing.py`).
    `actor` is there if the services ask for keys; `reference` and `description` if the client sent
    them. `previous` and `hash` make the account's chain (`pipeline/model/chain.py`).
    """

    _id: str
    slot: int
    account_id: str
    version: int
    kind: str
    body: Mapping[str, Any]
    schema: int
    created_at: datetime
    correlation_id: str
    causation_id: NotRequired[str]
    idempotency_key: NotRequired[str]
    request: NotRequired[str]
    traceparent: NotRequired[str]
    actor: NotRequired[Actor]
    reference: NotRequired[str]
    description: NotRequired[str]
    previous: NotRequired[str]
    hash: NotRequired[str]


@lru_cache(maxsize=65536)
def slot_of(account_id: str) -> int:
    """The virtual partition of an account, which never changes: FNV-1a-32 modulo 1024."""
    digest = _FNV_OFFSET
    for byte in account_id.encode():
        digest = ((digest ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return digest % SLOTS


def is_id(text: str) -> bool:
    """Whether an aggregate may have this id."""
    return _ID.fullmatch(text) is not None


def misplaced(document: Mapping[str, Any]) -> str | None:
    """Why the document's key is invalid; None for a version of an account, in the account's slot.

    People can write anything into the collection. Readers ignore documents whose key is invalid; a
    valid key with an invalid body blocks its account.
    """
    get = document.get
    account_id, version, slot = get("account_id"), get("version"), get("slot")
    if not isinstance(account_id, str) or (own := _own_slot(account_id)) is None:
        return "it is of no account"
    if isinstance(slot, bool) or slot != own:
        return "its slot is not the account's"
    if type(version) is int and version >= 1:  # nearly always
        return None
    if not isinstance(version, int | float) or isinstance(version, bool):
        return "its version is no number"
    return None if version >= 1 and version % 1 == 0 else "its version is not a positive integer"


@lru_cache(maxsize=65536)
def _own_slot(account_id: str) -> int | None:
    """The slot of an account's id; None for what can't be one."""
    return slot_of(account_id) if _ID.fullmatch(account_id) else None


def partition_of(slot: int, partitions: int) -> int:
    """The 0-based partition that owns a slot."""
    return slot * partitions // SLOTS


def slots_of(partition: int, partitions: int) -> range:
    """The slots that a partition owns: the inverse of `partition_of`."""
    return range(-(-partition * SLOTS // partitions), -(-(partition + 1) * SLOTS // partitions))


def new_event(
    account_id: str,
    version: int,
    kind: str,
    body: Mapping[str, Any],
    *,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    schema: int | None = None,
) -> Event:
    """A new envelope with an id that sorts by time and the present time to the millisecond.

    `schema`: that of the body, by default the kind's newest that is declared.
    """
    event: Event = {
        "_id": new_ulid(),
        "slot": slot_of(account_id),
        "account_id": account_id,
        "version": version,
        "kind": kind,
        "body": body,
        "schema": newest(kind) if schema is None else schema,
        # In half the time of `datetime.now`, which has microseconds and a zone to remove.
        "created_at": _EPOCH + timedelta(milliseconds=time.time_ns() // 1_000_000),
        "correlation_id": correlation_id or new_ulid(),
    }
    if causation_id is not None:
        event["causation_id"] = causation_id
    return event


def encode(event: Mapping[str, Any]) -> bytes:
    """An event as JSON, for the stream."""
    return orjson.dumps(event, option=_JSON)


class NoEvent(ValueError):
    """A message contains no event with a valid key."""


def decode(data: bytes) -> Event:
    """The event in a message of the stream, in its newest schema. `created_at` stays text.

    Raises `NoEvent`: anybody may have published anything. Whether the event can be folded is not
    checked.
    """
    try:
        event: Any = orjson.loads(data)
        why = misplaced(event) if isinstance(event, dict) else "it is no object"
    except ValueError as error:
        raise NoEvent(repr(error)) from error
    if why is not None:
        raise NoEvent(why)
    return upcast(event)  # type: ignore[no-any-return]


def event_in(data: bytes) -> Event | NoEvent:
    """`decode`, but a `NoEvent` is returned: for whole batches."""
    try:
        return decode(data)
    except NoEvent as error:
        return error


def rfc3339(moment: datetime | str) -> str:
    """A naive UTC time as RFC 3339 text ending in `Z`; text, as JSON has it, stays."""
    if isinstance(moment, str):
        return moment
    return orjson.dumps(moment, option=_JSON)[1:-1].decode()  # without its quotation marks
