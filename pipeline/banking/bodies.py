"""What the bodies of the bank's events look like, by kind: their JSON Schemas are made of these.

All that was ever stored fits them, so texts are not narrowed: older events have others.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, NotRequired, Required, TypedDict

from pydantic import Field

from pipeline.banking.events import (
    CAPTURED,
    CLOSED,
    CREATED,
    DEPOSITED,
    EXPIRED,
    FROZEN,
    HELD,
    OWNER_FORGOTTEN,
    OWNER_UPDATED,
    UNFROZEN,
    VOIDED,
    WITHDRAWN,
    Transfer,
)
from pipeline.banking.money import MAX_MONEY

Amount = Annotated[int, Field(gt=0, lt=MAX_MONEY)]
NotNegative = Annotated[int, Field(ge=0, lt=MAX_MONEY)]


class Created(TypedDict):
    """The account was opened, with this `money` in it."""

    owner: str
    money: NotNegative


class Moved(TypedDict):
    """Money came or went; with `transfer`, from or to another account."""

    money: Amount
    transfer: NotRequired[Transfer]


class NewOwner(TypedDict):
    """The account has another owner."""

    owner: str


class Reasons(TypedDict, total=False):
    """`reason` is for the bank's own people; the account's customer reads `public_reason`."""

    reason: str
    public_reason: str


class FrozenReasons(TypedDict, total=False):
    """As `Reasons`; a `reason`, which may be empty, is always there."""

    reason: Required[str]
    public_reason: str


class Forgotten(TypedDict):
    """The owner of all events before it is forgotten."""


class Held(TypedDict):
    """Money is reserved, until `expires_at` at the latest."""

    hold: str
    money: Amount
    expires_at: datetime


class Captured(TypedDict):
    """Money of a hold left the account; what is `released` is available again."""

    hold: str
    money: Amount
    released: NotNegative


class Released(TypedDict):
    """A hold ended without a payment."""

    hold: str
    released: NotNegative


BODIES: Final[Mapping[str | tuple[str, int], Any]] = {
    CREATED: Created,
    DEPOSITED: Moved,
    WITHDRAWN: Moved,
    OWNER_UPDATED: NewOwner,
    (FROZEN, 1): Reasons,
    FROZEN: FrozenReasons,
    UNFROZEN: Reasons,
    CLOSED: Reasons,
    OWNER_FORGOTTEN: Forgotten,
    HELD: Held,
    CAPTURED: Captured,
    VOIDED: Released,
    EXPIRED: Released,
}
