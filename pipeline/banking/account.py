"""The account, pure: `decide` turns a command into events or a refusal, `evolve` applies an event.

No clock, no I/O, no new ids. Money is a positive integer of minor units below 2^53.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pipeline.banking.bodies import BODIES
from pipeline.banking.commands import (
    Capture,
    Close,
    Command,
    Create,
    Deposit,
    ExpireHold,
    Freeze,
    Hold,
    MoveMoney,
    ReverseTransfer,
    Unfreeze,
    UpdateOwner,
    Void,
    Withdraw,
)
from pipeline.banking.errors import (
    AccountClosed,
    AccountExists,
    AccountFrozen,
    AccountNotEmpty,
    AccountNotFound,
    AccountNotFrozen,
    BalanceTooLarge,
    InsufficientFunds,
)
from pipeline.banking.events import (
    CAPTURED,
    CLOSED,
    CREATED,
    DEPOSITED,
    FROZEN,
    KINDS,
    OWNER_FORGOTTEN,
    OWNER_UPDATED,
    UNFROZEN,
    WITHDRAWN,
    Body,
    Transfer,
)
from pipeline.banking.holds import Holds, capture, held, hold, holds_after, release
from pipeline.banking.money import MAX_MONEY
from pipeline.banking.upcasters import UPCASTERS
from pipeline.model.aggregate import Aggregate, Decision, Joint, UnknownKind
from pipeline.model.events import Event
from pipeline.model.personal import FORGOTTEN

Status = Literal["new", "open", "frozen", "closed"]


# Not frozen: each command makes one, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class Account:
    """The state of an account, which nothing changes; a `new` one does not exist yet. `holds` are
    the open ones."""

    owner: str = ""
    balance: int = 0
    status: Status = "new"
    holds: Holds = field(default_factory=dict)

    @property
    def available(self) -> int:
        """What of the balance is not held."""
        return self.balance - held(self.holds) if self.holds else self.balance


def decide(command: Command, state: Account) -> list[Decision]:
    """The event that the command causes in this state, or raise a subclass of `Refused`."""
    match command:
        case Create(owner, money):
            if state.status != "new":
                raise AccountExists
            return [Decision(CREATED, {"owner": owner, "money": money})]
        case Deposit(money, transfer):
            _require_open(state)
            if state.balance + money >= MAX_MONEY:
                raise BalanceTooLarge
            return [Decision(DEPOSITED, _moved(money, transfer))]
        case Withdraw(money, transfer):
            _require_open(state)
            _require_available(state, money)
            return [Decision(WITHDRAWN, _moved(money, transfer))]
        case UpdateOwner(owner):
            _require_open(state)
            return [Decision(OWNER_UPDATED, {"owner": owner})]
        case Freeze():
            _require_open(state)
            return [Decision(FROZEN, {"reason": "", **_reasons(command)})]
        case Unfreeze():
            _require_living(state)
            if state.status != "frozen":
                raise AccountNotFrozen
            return [Decision(UNFROZEN, _reasons(command))]
        case Close():
            _require_open(state)
            if state.balance:
                raise AccountNotEmpty
            return [Decision(CLOSED, _reasons(command))]
        case Hold():
            _require_open(state)
            _require_available(state, command.money)
            return [hold(command, state.holds)]
        case Capture():
            _require_open(state)
            return [capture(command, state.holds)]
        case Void() | ExpireHold():  # of a frozen account, too: nothing leaves it
            _require_living(state)
            return [release(command, state.holds)]


def decide_transfer(
    command: MoveMoney, payer: Account, payee: Account
) -> Iterator[Sequence[Decision]]:
    """Both legs; each names the transfer and the other account."""
    money, transfer = command.money, command.transfer
    yield decide(Withdraw(money, {"id": transfer, "counterparty": command.target}), payer)
    yield decide(Deposit(money, {"id": transfer, "counterparty": command.source}), payee)


def decide_reversal(
    command: ReverseTransfer, payer: Account, payee: Account
) -> Iterator[Sequence[Decision]]:
    """Both legs of the way back; each names the transfer that it reverses."""
    money, transfer, before = command.money, command.transfer, command.reverses
    to_payer: Transfer = {"id": transfer, "counterparty": command.payee, "reverses": before}
    of_payee: Transfer = {"id": transfer, "counterparty": command.payer, "reverses": before}
    yield decide(Deposit(money, to_payer), payer)
    yield decide(Withdraw(money, of_payee), payee)


def evolve(state: Account, event: Event) -> Account:
    """The account after one more event; raises `KeyError`, `TypeError` and `ValueError`."""
    kind, body = event["kind"], event["body"]
    if state.status == "new" and kind != CREATED:
        raise ValueError(f"{kind} before {CREATED}")
    match kind:
        case "AccountCreated":
            return Account(_text(body["owner"]), _whole(body["money"]), "open")
        case "MoneyDeposited":
            return Account(
                state.owner, state.balance + _whole(body["money"]), state.status, state.holds
            )
        case "MoneyWithdrawn":
            return Account(
                state.owner, state.balance - _whole(body["money"]), state.status, state.holds
            )
        case "OwnerUpdated":
            return Account(_text(body["owner"]), state.balance, state.status, state.holds)
        case "OwnerForgotten":
            return Account(FORGOTTEN, state.balance, state.status, state.holds)
        case "AccountFrozen":
            return Account(state.owner, state.balance, "frozen", state.holds)
        case "AccountUnfrozen":
            return Account(state.owner, state.balance, "open", state.holds)
        case "AccountClosed":
            return Account(state.owner, state.balance, "closed", state.holds)
        case "MoneyHeld" | "HoldCaptured" | "HoldVoided" | "HoldExpired":
            paid = _whole(body["money"]) if kind == CAPTURED else 0
            after = holds_after(state.holds, event)
            return Account(state.owner, state.balance - paid, state.status, after)
        case _:
            raise UnknownKind(kind)


def _moved(money: int, transfer: Transfer | None) -> Body:
    return {"money": money, "transfer": transfer} if transfer else {"money": money}


def _reasons(command: Freeze | Unfreeze | Close) -> Body:
    """Those that were given."""
    body: Body = {}
    if command.reason:
        body["reason"] = command.reason
    if command.public_reason:
        body["public_reason"] = command.public_reason
    return body


def _require_living(state: Account) -> None:
    if state.status == "new":
        raise AccountNotFound
    if state.status == "closed":
        raise AccountClosed


def _require_open(state: Account) -> None:
    _require_living(state)
    if state.status == "frozen":
        raise AccountFrozen


def _require_available(state: Account, money: int) -> None:
    if state.available < money:
        raise InsufficientFunds


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(f"text {value!r}")


def _whole(money: object) -> int:
    if type(money) is int and 0 <= money < MAX_MONEY:  # nearly always
        return money
    if isinstance(money, int) and not isinstance(money, bool) and 0 <= money < MAX_MONEY:
        return money
    raise TypeError(f"money {money!r}")


ACCOUNT: Final = Aggregate[Command, Account](
    "account",
    initial=Account,
    decide=decide,
    evolve=evolve,
    kinds=KINDS,
    upcasters=UPCASTERS,
    bodies=BODIES,
    personal={CREATED: ("owner",), OWNER_UPDATED: ("owner",)},
    forgotten=OWNER_FORGOTTEN,
)
TRANSFER: Final = Joint[MoveMoney]("transfer", (ACCOUNT, ACCOUNT), decide_transfer)
REVERSAL: Final = Joint[ReverseTransfer](
    "reversal", (ACCOUNT, ACCOUNT), decide_reversal, once=lambda command: command.reverses
)
"""A transfer is reversed once: the payee's event has a key of that transfer's."""
