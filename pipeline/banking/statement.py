"""The second projection: an account's statement, one document for each of its events."""

from typing import Any, Final

from pipeline.banking.balance import text, time_of
from pipeline.banking.events import CAPTURED, CREATED, DEPOSITED, WITHDRAWN, require_kind
from pipeline.banking.money import moved, whole
from pipeline.model.events import Event
from pipeline.model.projection import Document, Projection

_LONGEST: Final = 1000


class Entry(Document):
    """What one event did: `amount`, signed, and the `balance` after it, both in minor units.

    `amount` is 0 if no money moved. For a transfer, `counterparty` is the other account and
    `transfer` the transfer's id; else both are null. `reference` and `description` are the words of
    who sent the command, or null. `at` is the RFC 3339 time.
    """

    account_id: str
    kind: str
    amount: int
    balance: int
    counterparty: str | None
    transfer: str | None
    reference: str | None
    description: str | None
    at: str


def after(document: Entry | None, event: Event) -> dict[str, Any]:
    """The entry of the event, which follows the entry before it."""
    kind, body = event["kind"], event["body"]
    require_kind(kind, begins=document is None)
    amount = _amount(kind, body)
    transfer: Any = body.get("transfer") or {}
    return {
        "kind": kind,
        "amount": amount,
        "balance": whole((document["balance"] if document else 0) + amount),
        "counterparty": text(transfer["counterparty"]) if transfer else None,
        "transfer": text(transfer["id"]) if transfer else None,
        "reference": _words(event.get("reference")),
        "description": _words(event.get("description")),
        "at": time_of(event),
    }


def _words(given: object) -> str | None:
    """The words of a client. People can write anything into the event store: what no client may
    send is not shown, and parks no account."""
    return given if isinstance(given, str) and len(given) <= _LONGEST else None


def _amount(kind: str, body: Any) -> int:
    if kind in (CREATED, DEPOSITED):
        return moved(body["money"])
    if kind in (WITHDRAWN, CAPTURED):
        return -moved(body["money"])
    return 0


STATEMENT: Final = Projection(
    "statement",
    after,
    {
        "kind": {"type": "keyword"},
        "amount": {"type": "long"},
        "balance": {"type": "long"},
        "counterparty": {"type": "keyword"},
        "transfer": {"type": "keyword"},
        "reference": {"type": "keyword"},
        "description": {"type": "text"},
        "at": {"type": "date"},
    },
    every=True,
    version=2,
    optional=("counterparty", "transfer", "reference", "description"),
)
