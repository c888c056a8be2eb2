"""The projection, pure: how an account's events fold into the one document that people read."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypedDict

from pipeline.events import (
    CLOSED,
    CREATED,
    DEPOSITED,
    FROZEN,
    OWNER_UPDATED,
    UNFROZEN,
    WITHDRAWN,
    Event,
    rfc3339,
)
from pipeline.upcasters import Unreadable, require_newest

VERSION: Final = 3
"""Of the fold and of the document's shape; the mapping carries it."""

_STATUS: Final = {CREATED: "open", FROZEN: "frozen", UNFROZEN: "open", CLOSED: "closed"}
_MOST: Final = 2**63 - 1

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
        "slot": {"type": "integer"},
        "event_id": {"type": "keyword"},
        "updated_at": {"type": "date"},
    },
}


class Document(TypedDict):
    """An account as people read it: `balance` in minor units, `version` and `event_id` of the last
    event, `updated_at` its RFC 3339 time. The slot never changes; a partition's number may."""

    id: str
    owner: str
    balance: int
    status: str
    version: int
    slot: int
    event_id: str
    updated_at: str


FIELDS: Final = frozenset(Document.__annotations__)


class Unfoldable(Exception):
    """An event that does not fit what came before it, or that is no event we know."""

    def __init__(self, event: Any, reason: str) -> None:
        super().__init__(f"event {event.get('_id')} of account {event.get('account_id')}: {reason}")
        self.event, self.reason = event, reason


class Advance(NamedTuple):
    """What came of events: the document, how many were new, how many known; and, where it had to
    stop, the event behind a gap, or the one that can't be folded."""

    document: Document | None
    applied: int
    duplicates: int
    gap: Event | None = None
    poison: Unfoldable | None = None

    @property
    def account_id(self) -> str:
        """Whose events they were; empty if nothing came of none."""
        if self.document is not None:
            return self.document["id"]
        return str(self.poison.event["account_id"]) if self.poison is not None else ""


def fold(document: Document | None, event: Event) -> Document:
    """The document after the event, which must be the account's next; else `Unfoldable`."""
    version, kind = event["version"], event.get("kind")
    if version != (document["version"] + 1 if document else 1):
        raise Unfoldable(event, f"version {version} is not the next")
    try:
        require_newest(event)
        owner, balance, status = _after(document, event)
        if abs(balance) > _MOST:
            raise Unfoldable(event, f"balance {balance} is out of range")
        return {
            "id": event["account_id"],
            "owner": owner,
            "balance": balance,
            "status": status,
            "version": version,
            "slot": event["slot"],
            "event_id": event["_id"],
            "updated_at": _time(event["created_at"]),
        }
    except Unreadable as error:
        raise Unfoldable(event, str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise Unfoldable(event, f"no {kind}: {error!r}") from error


def _after(document: Document | None, event: Event) -> tuple[str, int, str]:
    """Owner, balance and status after the event."""
    kind, body = event["kind"], event["body"]
    if document is None:
        if kind != CREATED:
            raise Unfoldable(event, f"{kind} before {CREATED}")
        return _text(body["owner"]), _whole(body["money"]), _STATUS[kind]
    owner, balance, status = document["owner"], document["balance"], document["status"]
    if kind == DEPOSITED:
        return owner, balance + _whole(body["money"]), status
    if kind == WITHDRAWN:
        return owner, balance - _whole(body["money"]), status
    if kind == OWNER_UPDATED:
        return _text(body["owner"]), balance, status
    if kind in _STATUS and kind != CREATED:
        return owner, balance, _STATUS[kind]
    raise Unfoldable(event, f"{kind} after version {document['version']}")


def _whole(money: Any) -> int:
    if isinstance(money, int) and not isinstance(money, bool):
        return money
    raise TypeError(f"money {money!r}")


def _time(moment: Any) -> str:
    if isinstance(moment, str):
        datetime.fromisoformat(moment)
    elif not isinstance(moment, datetime):
        raise TypeError(f"time {moment!r}")
    return rfc3339(moment)


def _text(owner: Any) -> str:
    if isinstance(owner, str):
        return owner
    raise TypeError(f"owner {owner!r}")


def fold_all(events: Iterable[Event]) -> Document | None:
    """The document of an account's whole history, in version order."""
    document: Document | None = None
    for event in events:
        document = fold(document, event)
    return document


def advance(document: Document | None, events: Sequence[Event]) -> Advance:
    """Fold an account's events, in version order, skipping the known; stop at a gap or a poison."""
    known = document["version"] if document else 0
    applied = duplicates = 0
    for event in events:
        version = event["version"]
        if version <= known:
            duplicates += 1
        elif version > known + 1:
            return Advance(document, applied, duplicates, gap=event)
        else:
            try:
                document = fold(document, event)
            except Unfoldable as poison:
                return Advance(document, applied, duplicates, poison=poison)
            known = version
            applied += 1
    return Advance(document, applied, duplicates)


NOTHING: Final = Advance(None, 0, 0)


def replay(events: Sequence[Event], before: Advance = NOTHING) -> Advance:
    """Fold an account's history as the store has it, or a next part of it: a hole is a poison."""
    if before.poison is not None:
        return before
    result = advance(before.document, events)
    if result.gap is None:
        return result
    hole = Unfoldable(result.gap, "the version before it is not in the store")
    return result._replace(gap=None, poison=hole)


def sound(version: int, source: Any) -> bool:
    """Whether a stored document is as we write them: its `_version` fits its version field."""
    return (
        isinstance(source, dict)
        and source.keys() == FIELDS
        and version % ERA == source["version"] > 0
        and isinstance(source["balance"], int)
    )
