"""Invariants of the event store and of what clients were told: 1, 2, 3, 5, 8 and 16.

A key that is not ASCII is none of a client's: the bank makes it, for what it does once.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from tests.torture.breaches import Breaches
from tests.torture.checker.fold import FORGOTTEN, Event, money, states
from tests.torture.checker.holds import available, open_holds
from tests.torture.checker.personal import SAYS, forgotten
from tests.torture.history import Attempt, History, Sent


class Told(NamedTuple):
    """What an acknowledgement is compared with: the kind of a command's event, what an answer shows
    of an aggregate after each of its events, and the fields that command and event share.
    `second`: whether an event needs no key of its own, such as the second one of a joint
    command."""

    kinds: Mapping[str, str]
    shown: Callable[[list[Event]], list[dict[str, Any]]]
    shared: tuple[str, ...]
    second: Callable[[Event], bool]


def _accounts(events: list[Event]) -> list[dict[str, Any]]:
    return [
        {
            "owner": each.owner,
            "balance": each.balance,
            "status": each.status,
            "available": left,
            "holds": holds,
        }
        for each, left, holds in zip(
            states(events), available(events), open_holds(events), strict=True
        )
    ]


def _unasked(event: Event) -> bool:
    """A transfer's second leg, a reversal's, the end of a hold by its time, or a forgetting."""
    transfer = event["body"].get("transfer", {})
    second = "MoneyWithdrawn" if "reverses" in transfer else "MoneyDeposited"
    return event["kind"] in ((second,) if transfer else ("HoldExpired", SAYS))


ACCOUNTS: Final = Told(
    kinds={
        "create": "AccountCreated",
        "deposit": "MoneyDeposited",
        "withdraw": "MoneyWithdrawn",
        "transfer": "MoneyWithdrawn",
        "owner": "OwnerUpdated",
        "freeze": "AccountFrozen",
        "unfreeze": "AccountUnfrozen",
        "close": "AccountClosed",
        "hold": "MoneyHeld",
        "capture": "HoldCaptured",
        "void": "HoldVoided",
        "reverse": "MoneyDeposited",
    },
    shown=_accounts,
    shared=("money", "owner", "hold"),
    second=_unasked,
)


def check_store(histories: dict[str, list[Event]], breaches: Breaches) -> None:
    """Versions, balances and transfers of the events as they are."""
    check_versions(histories, breaches)
    legs: dict[str, list[Event]] = {}
    for account, events in histories.items():
        low = next((each for each in states(events) if each.balance < 0), None)
        breaches.judge(5, low is None, f"{account}: {low}")
        for event in events:
            if transfer := event["body"].get("transfer"):
                legs.setdefault(transfer["id"], []).append(event)
    for transfer_id, pair in legs.items():
        kinds = Counter(event["kind"] for event in pair)
        net = sum(money(event) for event in pair)
        parties = {event["account_id"] for event in pair}
        told = {event["body"]["transfer"]["counterparty"] for event in pair}
        holds = kinds == {"MoneyWithdrawn": 1, "MoneyDeposited": 1} and not net
        breaches.judge(
            1, holds and parties == told, f"transfer {transfer_id}: {dict(kinds)}, {net}"
        )


def check_versions(histories: dict[str, list[Event]], breaches: Breaches) -> None:
    """Versions and chains of the events of any application."""
    for account, events in histories.items():
        versions = [event["version"] for event in events]
        whole = versions == list(range(1, len(events) + 1))
        breaches.judge(2, whole, f"{account} has the versions {_odd(versions)}")
        for version, holds in enumerate(_chain(events), 1):
            breaches.judge(16, holds, f"{account}, version {version}: not the one before it")


def _chain(events: list[Event]) -> Iterator[bool]:
    """Whether each event has its own hash and that of the one before it, as docs/events.md says; an
    old bank's events may have none before the first that has."""
    before, begun = "0" * 64, False
    for event in (each.get("stored", each) for each in events):
        content = {name: value for name, value in event.items() if name != "hash"}
        content["created_at"] = f"{event['created_at'].isoformat()}Z"
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        own = sha256(text.encode()).hexdigest()
        begun = begun or "hash" in event
        yield not begun or (event.get("hash"), event.get("previous")) == (own, before)
        before = own


def check_sums(
    histories: dict[str, list[Event]], balances: dict[str, int], breaches: Breaches
) -> None:
    """What all documents show together is what came into the bank less what went out."""
    moved = sum(
        money(event)
        for events in histories.values()
        for event in events
        if "transfer" not in event["body"]
    )
    total = sum(balances.values())
    breaches.judge(1, total == moved, f"the balances are {total}, the movements {moved}")


def check_history(
    history: History,
    histories: dict[str, list[Event]],
    breaches: Breaches,
    told: Told = ACCOUNTS,
) -> None:
    """What clients were told is in the store, and nothing that they did not ask for."""
    by_key: dict[str, list[Event]] = {}
    for events in histories.values():
        for event in events:
            if (key := event.get("idempotency_key", "")).isascii() and key:
                by_key.setdefault(key, []).append(event)
            else:
                asked = f"nobody asked for {event['_id']}, {event['kind']}"
                breaches.judge(3, told.second(event), asked)
    after = {name: told.shown(events) for name, events in histories.items()}
    last = forgotten(histories)
    sent = {each.key: each for each in history.all if not each.reused}
    for key, events in by_key.items():
        breaches.judge(8, len(events) == 1, f"{key} had {len(events)} effects")
        breaches.judge(3, key in sent, f"nobody sent {key}, of which {events[0]['_id']} is")
    for each in history.all:
        if each.reused:
            breaches.judge(8, each.answer is None, f"{each.key} was taken a second time")
        elif each.rejected:
            breaches.judge(3, each.key not in by_key, f"{each.key} was rejected, and executed")
        elif answer := each.answer:
            fault = _told(told, each, answer, by_key.get(each.key, []), after, last)
            breaches.judge(3, not fault, f"{each.key}, {each.command.path}: {fault}")


def _told(
    told: Told,
    sent: Sent,
    answer: Attempt,
    events: list[Event],
    after: dict[str, list[dict[str, Any]]],
    forgotten: dict[str, int],
) -> str:
    """What is wrong with an acknowledgement. `forgotten`: up to which version of each account names
    are gone, which were told before."""
    document, body = answer.document, sent.command.body
    if not events:
        return "it was acknowledged, and has no event"
    event = events[0]
    wanted: dict[str, Any] = {"id": event["account_id"], "version": event["version"]}
    if event["kind"] != told.kinds[sent.command.kind]:
        return f"its event is {event['kind']}"
    shared = [name for name in told.shared if name in body]
    early = event["version"] < forgotten.get(event["account_id"], 0)
    gone = [name for name in shared if early and event["body"][name] == FORGOTTEN]
    if any(event["body"][name] != body[name] for name in shared if name not in gone):
        return f"its event has {event['body']}"
    if sent.command.account and event["account_id"] != sent.command.account:
        return f"its event is of {event['account_id']}"
    states = after[event["account_id"]]
    if event["version"] > len(states):
        return f"its event has version {event['version']} of {len(states)}"
    wanted |= states[event["version"] - 1]
    if early and wanted.get("owner") == FORGOTTEN:
        del wanted["owner"]
    there = {name: document.get(name) for name in wanted}
    return "" if there == wanted else f"it was told {there}, not {wanted}"


def _odd(versions: list[int]) -> str:
    wrong = [(n, v) for n, v in enumerate(versions, 1) if n != v]
    return f"…{wrong[0][1]}… where {wrong[0][0]} should be" if wrong else ""
