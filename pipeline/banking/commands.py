"""The commands to an account, and the transfer over two.

Money is a positive integer of minor units below 2^53.
"""

from dataclasses import dataclass
from datetime import datetime

from pipeline.banking.events import Transfer
from pipeline.banking.money import MAX_MONEY


@dataclass(frozen=True, slots=True)
class Create:
    """Open the account, with `money` in it (0 is fine)."""

    owner: str
    money: int = 0

    def __post_init__(self) -> None:
        _require_money(self.money, least=0)


@dataclass(frozen=True, slots=True)
class Deposit:
    """Pay in; with `transfer`, the receiving leg of one."""

    money: int
    transfer: Transfer | None = None

    def __post_init__(self) -> None:
        _require_money(self.money, least=1)


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Pay out; with `transfer`, the sending leg of one."""

    money: int
    transfer: Transfer | None = None

    def __post_init__(self) -> None:
        _require_money(self.money, least=1)


@dataclass(frozen=True, slots=True)
class UpdateOwner:
    """Give the account another owner."""

    owner: str


@dataclass(frozen=True, slots=True)
class _WithReasons:
    """`reason` is for the bank's own people; the account's customer reads `public_reason`."""

    reason: str = ""
    public_reason: str = ""


class Freeze(_WithReasons):
    """Let nothing happen to the account until it is unfrozen."""


class Unfreeze(_WithReasons):
    """Open a frozen account again."""


class Close(_WithReasons):
    """End the account, which must be empty, for good."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Reserve money until `expires_at`; `hold` is the hold's id, `asked_at` the time now (both
    naive UTC)."""

    hold: str
    money: int
    expires_at: datetime
    asked_at: datetime

    def __post_init__(self) -> None:
        _require_money(self.money, least=1)


@dataclass(frozen=True, slots=True)
class Capture:
    """Pay out what is held, all of it or so much; the rest is released."""

    hold: str
    money: int | None = None

    def __post_init__(self) -> None:
        if self.money is not None:
            _require_money(self.money, least=1)


@dataclass(frozen=True, slots=True)
class Void:
    """Release what is held."""

    hold: str


@dataclass(frozen=True, slots=True)
class ExpireHold:
    """Release what is held, because its time has come: it was `due_at` then (UTC)."""

    hold: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class MoveMoney:
    """Move money from one account to another; `transfer` is the transfer's id."""

    transfer: str
    source: str
    target: str
    money: int


@dataclass(frozen=True, slots=True)
class ReverseTransfer:
    """Move the money of the transfer `reverses` back, whole: the account that was paid gives it
    back to the payer. `transfer` is the id of the reversal, which is a transfer, too."""

    transfer: str
    reverses: str
    payer: str
    payee: str
    money: int


Command = (
    Create
    | Deposit
    | Withdraw
    | UpdateOwner
    | Freeze
    | Unfreeze
    | Close
    | Hold
    | Capture
    | Void
    | ExpireHold
)


def _require_money(money: int, *, least: int) -> None:
    if not least <= money < MAX_MONEY:
        raise ValueError(f"money must be at least {least} and below 2^53")
