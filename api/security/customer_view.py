"""What customers see of stored records: these fields, and no other that a record may have or get.

The bank's own people (tellers, viewers, operators) see all that a record has: also reasons,
idempotency keys, correlation ids, and who caused an event.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NotRequired

from typing_extensions import TypedDict

from api.http.shapes import readable
from api.security.access import CUSTOMER
from api.security.guard import holder
from pipeline.banking.events import Transfer

Fields = Mapping[str, "Fields | None"]
"""The names of fields to show; those of the record within for a field that has one."""

_TEXTS: Final[Fields] = {"reference": None, "description": None}
"""What the client who sent the command wrote for both sides to read."""
_EVENT: Final[Fields] = {
    "_id": None,
    "slot": None,
    "account_id": None,
    "version": None,
    "kind": None,
    "schema": None,
    "created_at": None,
    "body": {
        "owner": None,
        "money": None,
        "transfer": {"id": None, "counterparty": None, "reverses": None},
        "public_reason": None,
        "hold": None,
        "expires_at": None,
        "released": None,
        **_TEXTS,
    },
    **_TEXTS,
}
_ACCOUNT: Final[Fields] = {
    "id": None,
    "version": None,
    "slot": None,
    "event_id": None,
    "owner": None,
    "balance": None,
    "status": None,
    "updated_at": None,
}
_ENTRY: Final[Fields] = {
    "id": None,
    "account_id": None,
    "version": None,
    "slot": None,
    "event_id": None,
    "kind": None,
    "amount": None,
    "balance": None,
    "counterparty": None,
    "transfer": None,
    "at": None,
    **_TEXTS,
}


class CustomerBody(TypedDict, total=False):
    """What a customer sees of an event's body."""

    owner: str
    money: int
    transfer: readable(Transfer)  # type: ignore[valid-type]
    public_reason: str
    hold: str
    expires_at: str
    released: int
    reference: str
    description: str


class CustomerEvent(TypedDict):
    """What a customer sees of an event."""

    _id: str
    slot: int
    account_id: str
    version: int
    kind: str
    body: CustomerBody
    schema: int
    created_at: datetime
    reference: NotRequired[str]
    description: NotRequired[str]


def for_customer() -> bool:
    """Whether the current request is a customer's."""
    key = holder()
    return key is not None and key.role is CUSTOMER


def visible_events(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The events as the current request may see them."""
    return _visible(events, _EVENT)


def visible_entries(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries of a statement as the current request may see them."""
    return _visible(entries, _ENTRY)


def visible_account(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A document of the projection of accounts as the current request may see it."""
    return _visible([document], _ACCOUNT)[0]


def _visible(records: Iterable[Mapping[str, Any]], fields: Fields) -> list[Mapping[str, Any]]:
    return [_only(each, fields) for each in records] if for_customer() else list(records)


def _only(record: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """The listed fields that the record has. People can write anything into the stores: a record or
    a list in the place of a value is not shown."""
    shown: dict[str, Any] = {}
    for name, within in fields.items():
        value = record.get(name)
        if within is not None and isinstance(value, Mapping):
            shown[name] = _only(value, within)
        elif within is None and name in record and not isinstance(value, Mapping | list):
            shown[name] = value
    return shown
