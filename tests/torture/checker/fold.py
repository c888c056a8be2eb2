"""How events make an account, told once more and in other words than the product's."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

SIGNS: Final = {
    "AccountCreated": 1,
    "MoneyDeposited": 1,
    "MoneyWithdrawn": -1,
    "HoldCaptured": -1,
}
"""Which way money goes; every other kind moves none."""
FORGOTTEN: Final = "[forgotten]"
Event = dict[str, Any]
Fields = dict[str, Any]

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
    owner_plain: str
    balance: int
    status: str
    version: int
    slot: int
    event_id: str
    updated_at: datetime


def money(event: Event) -> int:
    """What the event adds to its account's balance."""
    sign = SIGNS.get(event["kind"], 0)
    return sign * int(event["body"]["money"]) if sign else 0


def slot(account_id: str) -> int:
    """FNV-1a of 32 bits, modulo 1024."""
    number = 0x811C9DC5
    for byte in account_id.encode():
        number = (number ^ byte) * 0x01000193 % 2**32
    return number % 1024


def states(events: list[Event]) -> list[Account]:
    """The account after each of its events, which are in order of their versions."""
    found: list[Account] = []
    owner, status, balance = "", "", 0
    for event in events:
        owner = event["body"].get("owner", owner)
        owner = FORGOTTEN if event["kind"] == "OwnerForgotten" else owner
        status = _STATUSES.get(event["kind"], status)
        balance += money(event)
        account = event["account_id"]
        found.append(
            Account(
                account,
                owner,
                owner.lower(),  # those that torture gives have no marks
                balance,
                status,
                event["version"],
                slot(account),
                event["_id"],
                event["created_at"],
            )
        )
    return found


def balances(histories: Mapping[str, list[Event]]) -> dict[str, Fields]:
    """What the projection `balance` has to hold, by id of the document."""
    last = [states(events)[-1] for events in histories.values()]
    return {account.id: asdict(account) for account in last}


def statements(histories: Mapping[str, list[Event]]) -> dict[str, Fields]:
    """What the projection `statement` has to hold: an entry for each event."""
    found: dict[str, Fields] = {}
    for account, events in histories.items():
        for event, after in zip(events, states(events), strict=True):
            name, other = f"{account}-{event['version']}", event["body"].get("transfer", {})
            found[name] = {
                "id": name,
                "account_id": account,
                "version": event["version"],
                "slot": slot(account),
                "event_id": event["_id"],
                "kind": event["kind"],
                "amount": money(event),
                "balance": after.balance,
                "counterparty": other.get("counterparty"),
                "transfer": other.get("id"),
                "at": event["created_at"],
            }
    return found


def owners(histories: Mapping[str, list[Event]]) -> dict[str, Fields]:
    """What the groups `owners` have to add up to, by owner."""
    found: dict[str, Fields] = {}
    for events in histories.values():
        account = states(events)[-1]
        empty = {"id": account.owner, "shares": 0, "sums": {"balance": 0}}
        group = found.setdefault(account.owner, empty)
        group["shares"] += 1
        group["sums"]["balance"] += account.balance
    return found


PROJECTIONS: Final = {"balance": balances, "statement": statements}
GROUPS: Final = {"owners": owners}


def faults(wanted: Fields, there: Fields) -> list[str]:
    """Where a document differs from what it has to be, and how."""
    return [
        f"{name} {there.get(name)!r}, not {wanted.get(name)!r}"
        for name in sorted(wanted.keys() | there.keys())
        if not _same(wanted.get(name), there.get(name))
    ]


def _same(wanted: Any, there: Any) -> bool:
    """A time is text in a document; that of an event is naive and in UTC."""
    if not isinstance(wanted, datetime):
        return bool(wanted == there)
    try:
        return datetime.fromisoformat(str(there)).astimezone(UTC).replace(tzinfo=None) == wanted
    except ValueError:
        return False
