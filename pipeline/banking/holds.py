"""Holds, pure: money of an account that is reserved until it is captured, voided or expires.

An account's open holds are part of its state, so there is a limit to their number.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

from pipeline.banking.commands import Capture, ExpireHold, Hold, Void
from pipeline.banking.errors import (
    HoldNotDue,
    HoldNotFound,
    HoldTooLong,
    HoldTooSmall,
    TooManyHolds,
)
from pipeline.banking.events import CAPTURED, EXPIRED, HELD, VOIDED
from pipeline.model.aggregate import Decision
from pipeline.model.events import Event, rfc3339

MOST: Final = 100
"""Open holds of an account: each makes its state and its snapshots larger."""
LONGEST: Final = timedelta(days=31)


class OpenHold(TypedDict):
    """What is held, in minor units, and until when: RFC 3339."""

    money: int
    expires_at: str


Holds = Mapping[str, OpenHold]
"""The open holds by their ids, the oldest first."""


def held(holds: Holds) -> int:
    """The money of all of them."""
    return sum(hold["money"] for hold in holds.values())


def hold(command: Hold, holds: Holds) -> Decision:
    """Hold money, which the caller knows to be available."""
    if not command.asked_at < command.expires_at <= command.asked_at + LONGEST:
        raise HoldTooLong
    if len(holds) >= MOST:
        raise TooManyHolds
    expires_at = rfc3339(command.expires_at)
    return Decision(HELD, {"hold": command.hold, "money": command.money, "expires_at": expires_at})


def capture(command: Capture, holds: Holds) -> Decision:
    """Pay out of a hold. The hold ends: what it has more is released."""
    there = _open(command.hold, holds)["money"]
    money = there if command.money is None else command.money
    if money > there:
        raise HoldTooSmall
    return Decision(CAPTURED, {"hold": command.hold, "money": money, "released": there - money})


def release(command: Void | ExpireHold, holds: Holds) -> Decision:
    """End a hold without a payment."""
    there = _open(command.hold, holds)
    if isinstance(command, ExpireHold) and utc(command.due_at) < moment(there["expires_at"]):
        raise HoldNotDue
    kind = VOIDED if isinstance(command, Void) else EXPIRED
    return Decision(kind, {"hold": command.hold, "released": there["money"]})


def holds_after(holds: Holds, event: Event) -> Holds:
    """The open holds after an event of one; raises `KeyError` and `ValueError`."""
    body = event["body"]
    name = body["hold"]
    if (event["kind"] == HELD) == (name in holds):
        raise ValueError(f"{event['kind']} of a hold that is {'' if name in holds else 'not '}open")
    if event["kind"] == HELD:
        return {**holds, name: {"money": body["money"], "expires_at": body["expires_at"]}}
    return {other: each for other, each in holds.items() if other != name}


def moment(expires_at: str) -> datetime:
    """The time in an event; raises `ValueError`."""
    return utc(datetime.fromisoformat(expires_at))


def utc(time: datetime) -> datetime:
    """With its time zone, which is UTC if it has none."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _open(name: str, holds: Holds) -> OpenHold:
    if name not in holds:
        raise HoldNotFound
    return holds[name]
