"""The bank's kinds of events, and their bodies in the newest schema."""

from typing import Final, NotRequired, TypedDict

from pipeline.model.aggregate import UnknownKind

CREATED: Final = "AccountCreated"
DEPOSITED: Final = "MoneyDeposited"
WITHDRAWN: Final = "MoneyWithdrawn"
OWNER_UPDATED: Final = "OwnerUpdated"
FROZEN: Final = "AccountFrozen"
UNFROZEN: Final = "AccountUnfrozen"
CLOSED: Final = "AccountClosed"
OWNER_FORGOTTEN: Final = "OwnerForgotten"
HELD: Final = "MoneyHeld"
CAPTURED: Final = "HoldCaptured"
VOIDED: Final = "HoldVoided"
EXPIRED: Final = "HoldExpired"
OF_HOLDS: Final = frozenset({HELD, CAPTURED, VOIDED, EXPIRED})
KINDS: Final = OF_HOLDS | {
    CREATED,
    DEPOSITED,
    WITHDRAWN,
    OWNER_UPDATED,
    FROZEN,
    UNFROZEN,
    CLOSED,
    OWNER_FORGOTTEN,
}


def require_kind(kind: str, *, begins: bool) -> None:
    """Raise ValueError unless an account may begin, or else go on, with an event of this kind."""
    if kind not in KINDS:
        raise UnknownKind(kind)
    if begins and kind != CREATED:
        raise ValueError(f"the first event of an account is {CREATED}, and not {kind}")
    if not begins and kind == CREATED:
        raise ValueError(f"{CREATED} is the first event of an account, and comes once")


LONGEST_OWNER: Final = 200
LONGEST_REFERENCE: Final = 140
LONGEST_DESCRIPTION: Final = 500
"""Code points of an owner's name, and of a client's own words for a movement of money."""


class Transfer(TypedDict):
    """In the body of both legs of a transfer: the transfer's id and the other account. A reversal
    is a transfer back, which names the transfer that it `reverses`."""

    id: str
    counterparty: str
    reverses: NotRequired[str]


class Body(TypedDict, total=False):
    """What happened. `AccountCreated{owner, money}`, `MoneyDeposited{money, transfer?}`,
    `MoneyWithdrawn{money, transfer?}`, `OwnerUpdated{owner}`,
    `AccountFrozen{reason, public_reason?}`, `AccountUnfrozen{reason?, public_reason?}`,
    `AccountClosed{reason?, public_reason?}`, `OwnerForgotten{}`; `MoneyHeld{hold, money,
    expires_at}`, `HoldCaptured{hold, money, released}`, `HoldVoided{hold, released}`,
    `HoldExpired{hold, released}`. Money in minor units: `money` of a capture has left the account,
    what is `released` is available again. `expires_at` is an RFC 3339 time. Customers may read
    `public_reason` and never `reason`."""

    owner: str
    money: int
    transfer: Transfer
    reason: str
    public_reason: str
    hold: str
    expires_at: str
    released: int
