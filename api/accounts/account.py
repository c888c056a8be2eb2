"""The account, pure: `decide` turns a command into events or a refusal, `evolve` folds an event.

No clock, no I/O, no ids made here. Money is a positive integer of minor units below 2^53.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final, Literal, NamedTuple

from pipeline.events import (
    CREATED,
    DEPOSITED,
    MAX_MONEY,
    OWNER_UPDATED,
    WITHDRAWN,
    Body,
    Event,
    Transfer,
)

Status = Literal["new", "open"]
NEW: Final = "new"
OPEN: Final = "open"


@dataclass(frozen=True, slots=True)
class Account:
    """The state after `version` events; a new account (version 0) does not exist yet."""

    id: str
    owner: str = ""
    balance: int = 0
    version: int = 0
    status: Status = NEW


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


Command = Create | Deposit | Withdraw | UpdateOwner


class Decision(NamedTuple):
    """An event to be: its kind and body; the envelope is put round it by the service."""

    kind: str
    body: Body


class Refused(Exception):
    """A command that breaks a rule of the account. Nothing was stored."""

    def __init__(self, account_id: str) -> None:
        super().__init__(account_id)
        self.account_id = account_id


class AccountNotFound(Refused):
    """There is no such account."""


class AccountExists(Refused):
    """The account was opened already."""


class InsufficientFunds(Refused):
    """The balance would fall below zero."""


class BalanceTooLarge(Refused):
    """The balance would reach 2^53."""


class TransferToSelf(Refused):
    """Both sides of a transfer are the same account."""


def initial(account_id: str) -> Account:
    """The state before the first event."""
    return Account(account_id)


def decide(command: Command, state: Account) -> list[Decision]:
    """The events that the command makes of this state, or raise `Refused`."""
    match command:
        case Create(owner, money):
            if state.version:
                raise AccountExists(state.id)
            return [Decision(CREATED, {"owner": owner, "money": money})]
        case Deposit(money, transfer):
            _require_open(state)
            if state.balance + money >= MAX_MONEY:
                raise BalanceTooLarge(state.id)
            return [Decision(DEPOSITED, _moved(money, transfer))]
        case Withdraw(money, transfer):
            _require_open(state)
            if state.balance < money:
                raise InsufficientFunds(state.id)
            return [Decision(WITHDRAWN, _moved(money, transfer))]
        case UpdateOwner(owner):
            _require_open(state)
            return [Decision(OWNER_UPDATED, {"owner": owner})]


def evolve(state: Account, event: Event) -> Account:
    """The state after one more event; `ValueError` when it is not the next one or unknown."""
    version, body = event["version"], event["body"]
    if version != state.version + 1:
        raise ValueError(f"account {state.id}: version {version} after {state.version}")
    match event["kind"]:
        case "AccountCreated":
            return Account(state.id, body["owner"], body["money"], version, OPEN)
        case "MoneyDeposited":
            return replace(state, balance=state.balance + body["money"], version=version)
        case "MoneyWithdrawn":
            return replace(state, balance=state.balance - body["money"], version=version)
        case "OwnerUpdated":
            return replace(state, owner=body["owner"], version=version)
        case kind:
            raise ValueError(f"account {state.id}: event of unknown kind {kind}")


def fold(account_id: str, events: Iterable[Event]) -> Account:
    """The state after all these events, which start at version 1."""
    return reduce(evolve, events, initial(account_id))


def _moved(money: int, transfer: Transfer | None) -> Body:
    return {"money": money, "transfer": transfer} if transfer else {"money": money}


def _require_open(state: Account) -> None:
    if not state.version:
        raise AccountNotFound(state.id)


def _require_money(money: int, *, least: int) -> None:
    if not least <= money < MAX_MONEY:
        raise ValueError(f"money must be at least {least} and below 2^53")
