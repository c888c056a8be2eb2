"""The first projection: an account as it is now, one document each."""

from datetime import datetime
from typing import Any, Final

from pipeline.banking.events import (
    CAPTURED,
    CLOSED,
    CREATED,
    DEPOSITED,
    FROZEN,
    OWNER_FORGOTTEN,
    OWNER_UPDATED,
    UNFROZEN,
    WITHDRAWN,
    require_kind,
)
from pipeline.banking.money import moved, whole
from pipeline.model.events import Event, rfc3339
from pipeline.model.groups import Groups
from pipeline.model.personal import FORGOTTEN
from pipeline.model.projection import Document, Projection

LONGEST: Final = 10_000
"""Characters of a text; documents of any length would not fit into one bulk."""

LONGEST_SORTED: Final = 400
"""UTF-16 units of an owner's name up to which pages can be sorted by it, and `?owner=` finds it.
Elasticsearch counts in these: a name may have 200 characters, and a character has up to two. A
longer name, of an event that the account service did not make, comes last."""

_STATUS: Final = {CREATED: "open", FROZEN: "frozen", UNFROZEN: "open", CLOSED: "closed"}


class Balance(Document):
    """An account as people read it: `balance` in minor units, with what is held, `updated_at` the
    RFC 3339 time of its last event."""

    owner: str
    balance: int
    status: str
    updated_at: str


def after(document: Balance | None, event: Event) -> dict[str, Any]:
    """The account after the event."""
    owner, balance, status = _after(document, event)
    return {
        "owner": owner,
        "balance": whole(balance),
        "status": status,
        "updated_at": time_of(event),
    }


def _after(document: Balance | None, event: Event) -> tuple[str, int, str]:
    """Owner, balance and status after the event."""
    kind, body = event["kind"], event["body"]
    require_kind(kind, begins=document is None)
    if document is None:
        return text(body["owner"]), moved(body["money"]), _STATUS[kind]
    owner, balance, status = document["owner"], document["balance"], document["status"]
    if kind == DEPOSITED:
        return owner, balance + moved(body["money"]), status
    if kind == WITHDRAWN:
        return owner, balance - moved(body["money"]), status
    if kind == OWNER_UPDATED:
        return text(body["owner"]), balance, status
    if kind == OWNER_FORGOTTEN:
        return FORGOTTEN, balance, status
    if kind in _STATUS:
        return owner, balance, _STATUS[kind]
    paid = moved(body["money"]) if kind == CAPTURED else 0
    return owner, balance - paid, status


def time_of(event: Event) -> str:
    """When the event happened: RFC 3339."""
    moment: Any = event["created_at"]
    if isinstance(moment, str):
        datetime.fromisoformat(moment)
    elif not isinstance(moment, datetime):
        raise TypeError(f"time {moment!r}")
    return rfc3339(moment)


def text(value: Any) -> str:
    """The value, if it is a text of at most `LONGEST`; raises `TypeError`, `ValueError`."""
    if not isinstance(value, str):
        raise TypeError(f"text {value!r}")
    if len(value) > LONGEST:
        raise ValueError(f"a text of {len(value)} characters")
    return value


OWNERS: Final = Groups("owners", by="owner.keyword", sums=("balance",))
"""Balances by owner. A name that is longer than `LONGEST_SORTED` is in no group."""

BALANCE: Final = Projection(
    "balance",
    after,
    {
        "owner": {
            "type": "text",
            "fields": {"keyword": {"type": "keyword", "ignore_above": LONGEST_SORTED}},
        },
        "balance": {"type": "long"},
        "status": {"type": "keyword"},
        "updated_at": {"type": "date"},
    },
    version=4,
    groups=[OWNERS],
    plain=("owner",),
)
