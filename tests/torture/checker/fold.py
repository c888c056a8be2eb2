"""How events make an account, told once more and in other words than the product's."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

SIGNS: Final = {"AccountCreated": 1, "MoneyDeposited": 1, "MoneyWithdrawn": -1}
"""Which way money goes; every other kind moves none."""
_STATUSES: Final = {
    "AccountCreated": "open",
    "AccountFrozen": "frozen",
    "AccountUnfrozen": "open",
    "AccountClosed": "closed",
}


@dataclass(frozen=True, slots=True)
class Account:
    """An account after an event; `balance` in minor units."""

    id: str
    owner: str
    balance: int
    status: str
    version: int
    slot: int
    event_id: str
    updated_at: datetime


def money(event: dict[str, Any]) -> int:
    """What the event adds to its account's balance."""
    sign = SIGNS.get(event["kind"], 0)
    return sign * int(event["body"]["money"]) if sign else 0


def slot(account_id: str) -> int:
    """FNV-1a of 32 bits, modulo 1024."""
    number = 0x811C9DC5
    for byte in account_id.encode():
        number = (number ^ byte) * 0x01000193 % 2**32
    return number % 1024


def states(events: list[dict[str, Any]]) -> list[Account]:
    """The account after each of its events, which are in order of their versions."""
    found: list[Account] = []
    owner, status, balance = "", "", 0
    for event in events:
        owner = event["body"].get("owner", owner)
        status = _STATUSES.get(event["kind"], status)
        balance += money(event)
        account = event["account_id"]
        found.append(
            Account(
                account,
                owner,
                balance,
                status,
                event["version"],
                slot(account),
                event["_id"],
                event["created_at"],
            )
        )
    return found


def shown(account: Account, document: dict[str, Any]) -> list[str]:
    """Where a document differs from the account, and how."""
    wanted: dict[str, Any] = {
        name: getattr(account, name) for name in Account.__slots__ if name != "updated_at"
    }
    faults = [
        f"{name} {document.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if document.get(name) != value
    ]
    told = str(document.get("updated_at", ""))
    try:
        when = datetime.fromisoformat(told).replace(tzinfo=None)
    except ValueError:
        return [*faults, f"updated_at {told!r}"]
    if when != account.updated_at:
        faults.append(f"updated_at {told}, not {account.updated_at}")
    return faults
