"""Invariants of holds and reversals, told once more: 5, 17 and 18."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from tests.torture.breaches import Breaches
from tests.torture.checker.fold import Event, Fields, money, states

_ENDS: Final = frozenset({"HoldCaptured", "HoldVoided", "HoldExpired"})
_GRACE: Final = 2.0
"""Seconds after its time in which a hold of a bank at rest may be open."""


def open_holds(events: list[Event]) -> list[list[Fields]]:
    """The open holds after each of an account's events, the oldest first."""
    found: list[list[Fields]] = []
    for event in events:
        left, body = found[-1] if found else [], event["body"]
        if event["kind"] == "MoneyHeld":
            told = {name: body[name] for name in ("money", "expires_at")}
            left = [*left, {"id": body["hold"], **told}]
        elif event["kind"] in _ENDS:
            left = [each for each in left if each["id"] != body["hold"]]
        found.append(left)
    return found


def available(events: list[Event]) -> list[int]:
    """What can be spent after each of an account's events."""
    return [
        after.balance - sum(each["money"] for each in left)
        for after, left in zip(states(events), open_holds(events), strict=True)
    ]


def check_holds(histories: Mapping[str, list[Event]], breaches: Breaches, read: datetime) -> None:
    """Each hold ends at most once, with what was held; it expires soon after its time, and never
    before it, by the clock of this process. `read`: when it began to read the events."""
    now = datetime.now(UTC)
    for account, events in histories.items():
        low = min(available(events), default=0)
        breaches.judge(5, low >= 0, f"{account}: {low} is available")
        held: dict[str, list[Event]] = {}
        for event in events:
            if "hold" in event["body"]:
                held.setdefault(event["body"]["hold"], []).append(event)
        for name, of_hold in held.items():
            kinds = [event["kind"] for event in of_hold]
            sound = kinds[0] == "MoneyHeld" and len(of_hold) <= 2 and {*kinds[1:]} <= _ENDS
            breaches.judge(17, sound, f"{account}: hold {name} has {kinds}")
            if sound and len(of_hold) == 2:
                ends = of_hold[1]["body"]
                out = ends.get("money", 0) + ends["released"]
                whole = out == of_hold[0]["body"]["money"]
                breaches.judge(17, whole, f"{account}: hold {name} ends with {ends}")
                until = _time(of_hold[0])
                early = kinds[1] == "HoldExpired" and until > now
                breaches.judge(17, not early, f"{account}: hold {name} expired before {until}")
    late = sorted(overdue(histories, read))
    breaches.judge(17, not late, f"open after their time: {late[:3]}")


def overdue(histories: Mapping[str, list[Event]], now: datetime) -> Iterator[str]:
    """The holds that should have expired by then."""
    for events in histories.values():
        ended = {event["body"]["hold"] for event in events if event["kind"] in _ENDS}
        for event in events:
            waits = event["kind"] == "MoneyHeld" and event["body"]["hold"] not in ended
            if waits and (now - _time(event)).total_seconds() > _GRACE:
                yield str(event["body"]["hold"])


def _time(held: Event) -> datetime:
    """When the hold that began with this event expires."""
    return datetime.fromisoformat(held["body"]["expires_at"])


def check_reversals(histories: Mapping[str, list[Event]], breaches: Breaches) -> None:
    """Each reversal is that of one transfer, whose movements it takes back; none has two."""
    moved: dict[str, Counter[str]] = {}
    backs: dict[str, str] = {}
    for account, events in histories.items():
        for event in events:
            if transfer := event["body"].get("transfer"):
                moved.setdefault(transfer["id"], Counter())[account] += money(event)
                if "reverses" in transfer:
                    backs[transfer["id"]] = transfer["reverses"]
    for number, taken_back in backs.items():
        there = moved.get(taken_back, Counter())
        nets = {account: -amount for account, amount in there.items()} == moved[number]
        known = nets and taken_back not in backs
        breaches.judge(18, known, f"{number}: {moved[number]} for {taken_back}: {there}")
    twice = [each for each, times in Counter(backs.values()).items() if times > 1]
    breaches.judge(18, not twice, f"reversed twice: {twice[:3]}")
