"""The account, pure: `decide` turns a command into events or a refusal, `evolve` applies an event.

No clock, no I/O, no new ids. Money is a positive integer of minor units below 2^53.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from typing import Final, Literal, NamedTuple

from api.accounts.commands import (
    Close,
    Command,
    Create,
    Deposit,
    Freeze,
    Unfreeze,
    UpdateOwner,
    Withdraw,
)
from api.accounts.errors import (
    AccountClosed,
    AccountExists,
    AccountFrozen,
    AccountNotEmpty,
    AccountNotFound,
    AccountNotFrozen,
    AccountUnreadable,
    BalanceTooLarge,
    InsufficientFunds,
)
from pipeline.banking.events import (
    CLOSED,
    CREATED,
    DEPOSITED,
    FROZEN,
    OWNER_UPDATED,
    UNFROZEN,
    WITHDRAWN,
    Body,
    Transfer,
)
from pipeline.banking.money import MAX_MONEY
from pipeline.model.chain import NOTHING, chained, hash_of
from pipeline.model.events import Event
from pipeline.model.upcasters import require_newest

FOLD: Final = 1
"""The version of `evolve`. Raise it when the same events give another state: snapshots of another
fold are ignored."""

Status = Literal["new", "open", "frozen", "closed"]


# Not frozen: each command makes one, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class Account:
    """The state after `version` events, which nothing changes; a new account (version 0) does not
    exist yet."""

    id: str
    owner: str = ""
    balance: int = 0
    version: int = 0
    status: Status = "new"
    event_id: str = ""
    """Of the last event."""
    until: datetime | None = None
    """The latest time of all its events (naive UTC). Clocks differ: it may not be the last
    event's."""
    hash: str = field(default=NOTHING, compare=False)
    """Of the last event, for the next one to name. No snapshot has it: it is read with the event
    that confirms the snapshot."""
    chained: bool = field(default=False, compare=False)
    """Whether the last event is part of a chain."""


class Decision(NamedTuple):
    """The kind and body of a new event; the service adds the envelope."""

    kind: str
    body: Body


def initial(account_id: str) -> Account:
    """The state before the first event."""
    return Account(account_id)


def decide(command: Command, state: Account) -> list[Decision]:
    """The events that the command causes in this state, or raise `Refused`."""
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
        case Freeze():
            _require_open(state)
            return [Decision(FROZEN, {"reason": "", **_reasons(command)})]
        case Unfreeze():
            _require_living(state)
            if state.status != "frozen":
                raise AccountNotFrozen(state.id)
            return [Decision(UNFROZEN, _reasons(command))]
        case Close():
            _require_open(state)
            if state.balance:
                raise AccountNotEmpty(state.id)
            return [Decision(CLOSED, _reasons(command))]


def evolve(state: Account, event: Event) -> Account:
    """The state after one more event; `AccountUnreadable` if it is invalid or not the next one."""
    version = event["version"]
    if version != state.version + 1 or isinstance(version, float):
        raise AccountUnreadable(state.id, f"version {version} after {state.version}")
    try:
        _text(event["_id"])
        require_newest(event)
        owner, balance, status = _after(state, event)
        until = _latest(state.until, event)
        head, begun = hash_of(event), chained(event)
        return Account(state.id, owner, balance, version, status, event["_id"], until, head, begun)
    except (KeyError, TypeError, ValueError) as error:
        raise AccountUnreadable(state.id, f"version {version}: {error}") from error


def _after(state: Account, event: Event) -> tuple[str, int, Status]:
    """Owner, balance and status after the event."""
    body, owner, balance, status = event["body"], state.owner, state.balance, state.status
    match event["kind"]:
        case "AccountCreated":
            return _text(body["owner"]), _whole(body["money"]), "open"
        case "MoneyDeposited":
            return owner, balance + _whole(body["money"]), status
        case "MoneyWithdrawn":
            return owner, balance - _whole(body["money"]), status
        case "OwnerUpdated":
            return _text(body["owner"]), balance, status
        case "AccountFrozen":
            return owner, balance, "frozen"
        case "AccountUnfrozen":
            return owner, balance, "open"
        case "AccountClosed":
            return owner, balance, "closed"
        case kind:
            raise ValueError(f"event of unknown kind {kind}")


def fold(account_id: str, events: Iterable[Event]) -> Account:
    """The state after all these events, which start at version 1."""
    return reduce(evolve, events, initial(account_id))


def _latest(until: datetime | None, event: Event) -> datetime | None:
    """The later time. No decision depends on times, so an invalid one is ignored."""
    moment = event.get("created_at")
    if not isinstance(moment, datetime):
        return until
    return max(until, moment) if until else moment


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
    if not state.version:
        raise AccountNotFound(state.id)
    if state.status == "closed":
        raise AccountClosed(state.id)


def _require_open(state: Account) -> None:
    _require_living(state)
    if state.status == "frozen":
        raise AccountFrozen(state.id)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(f"text {value!r}")


def _whole(money: object) -> int:
    if isinstance(money, int) and not isinstance(money, bool) and 0 <= money < MAX_MONEY:
        return money
    raise TypeError(f"money {money!r}")
