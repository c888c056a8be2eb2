"""The projection, pure: how an account's events fold into the one document that people read."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypedDict

from pipeline.events import CREATED, DEPOSITED, OWNER_UPDATED, WITHDRAWN, Event, rfc3339

VERSION: Final = 1
"""Of the fold and of the document's shape; the mapping carries it."""

OPEN: Final = "open"

ERA: Final = 1 << 40
"""A document's Elasticsearch `_version` is era * 2^40 + the account's version. The era is nearly
always 0; repairing what somebody wrote by hand raises it, for only a higher `_version` wins."""

MAPPING: Final[dict[str, Any]] = {
    "dynamic": "strict",
    "_meta": {"projection": VERSION},
    "properties": {
        "id": {"type": "keyword"},
        "owner": {
            "type": "text",
            "fields": {"keyword": {"type": "keyword", "ignore_above": 256}},
        },
        "balance": {"type": "long"},
        "status": {"type": "keyword"},
        "version": {"type": "long"},
        "partition": {"type": "integer"},
        "event_id": {"type": "keyword"},
        "updated_at": {"type": "date"},
    },
}


class Document(TypedDict):
    """An account as people read it: `balance` in minor units, `version` and `event_id` of the last
    event, `updated_at` its RFC 3339 time."""

    id: str
    owner: str
    balance: int
    status: str
    version: int
    partition: int
    event_id: str
    updated_at: str


FIELDS: Final = frozenset(Document.__annotations__)


class Unfoldable(Exception):
    """An event that does not fit what came before it, or that is no event at all."""

    def __init__(self, event: Any, reason: str) -> None:
        super().__init__(f"event {event.get('_id')} of account {event.get('account_id')}: {reason}")
        self.account_id = event.get("account_id")


class Advance(NamedTuple):
    """What came of events: the document, how many were new, how many known, and whether the rest
    waits behind a gap."""

    document: Document | None
    applied: int
    duplicates: int
    gap: bool


def fold(document: Document | None, event: Event, partition: int) -> Document:
    """The document after the event, which must be the account's next; else `Unfoldable`."""
    version = event["version"]
    if version != (document["version"] + 1 if document else 1):
        raise Unfoldable(event, f"version {version} is not the next")
    kind, body = event["kind"], event["body"]
    try:
        if document is None:
            if kind != CREATED:
                raise Unfoldable(event, f"{kind} before {CREATED}")
            owner, balance = body["owner"], body["money"]
        else:
            owner, balance = document["owner"], document["balance"]
            if kind == DEPOSITED:
                balance += body["money"]
            elif kind == WITHDRAWN:
                balance -= body["money"]
            elif kind == OWNER_UPDATED:
                owner = body["owner"]
            else:
                raise Unfoldable(event, f"{kind} after version {version - 1}")
        return {
            "id": event["account_id"],
            "owner": owner,
            "balance": balance,
            "status": OPEN,
            "version": version,
            "partition": partition,
            "event_id": event["_id"],
            "updated_at": rfc3339(event["created_at"]),
        }
    except (KeyError, TypeError) as error:
        raise Unfoldable(event, f"no {kind}: {error!r}") from error


def fold_all(events: Iterable[Event], partition: int) -> Document | None:
    """The document of an account's whole history, in version order."""
    document: Document | None = None
    for event in events:
        document = fold(document, event, partition)
    return document


def advance(document: Document | None, events: Sequence[Event], partition: int) -> Advance:
    """Fold an account's events, in version order, skipping the known and stopping at a gap."""
    known = document["version"] if document else 0
    applied = duplicates = 0
    for event in events:
        version = event["version"]
        if version <= known:
            duplicates += 1
        elif version > known + 1:
            return Advance(document, applied, duplicates, True)
        else:
            document = fold(document, event, partition)
            known = version
            applied += 1
    return Advance(document, applied, duplicates, False)


def sound(version: int, source: Any) -> bool:
    """Whether a stored document is as we write them: its `_version` fits its version field."""
    return (
        isinstance(source, dict)
        and source.keys() == FIELDS
        and version % ERA == source["version"] > 0
        and isinstance(source["balance"], int)
    )
