"""Are holds what they should be (invariant 17), by the checker's own arithmetic?

A hold that is open long after its time is compared again: its end may be under way.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pipeline.banking.events import CAPTURED, HELD, OF_HOLDS
from pipeline.eventstore import EventStore
from pipeline.model.events import Event
from pipeline.operations.checker.bodies import body_of, kind_of
from pipeline.operations.checker.report import Faults
from pipeline.operations.recheck import Patience, rounds

TOLERANCE: Final = 60.0
"""Seconds after its time in which a hold may still be open: clocks differ, and a worker that was
killed is replaced in less."""
MOST_LATE: Final = 20_000
"""Accounts that are compared again. Of those beyond, only the number is kept: memory is bounded."""


@dataclass(slots=True)
class OpenHolds:
    """Those of one account, after its events so far: what is held, and until when (naive UTC)."""

    of: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    money: int = 0

    def follow(self, event: Event) -> str:
        """Note an event of a hold; what is wrong with it, in words, or nothing."""
        body = body_of(event)
        name: object = body.get("hold")
        if not isinstance(name, str):
            return f"{kind_of(event)} of the hold {name!r}"
        return self._begin(name, body) if kind_of(event) == HELD else self._end(name, event)

    def late(self, now: datetime) -> str:
        """Which hold is open for longer after its time than is tolerated; empty if none is."""
        for name, (_, until) in self.of.items():
            if (seconds := (now - until).total_seconds()) > TOLERANCE:
                return f"hold {name} is open {seconds:,.0f} s after its time"
        return ""

    def _begin(self, name: str, body: Mapping[str, Any]) -> str:
        money, until = _whole(body.get("money")), _time(body.get("expires_at"))
        if name in self.of or money is None or not money or until is None:
            return f"hold {name} can't begin with {dict(body)}"
        self.of[name] = money, until
        self.money += money
        return ""

    def _end(self, name: str, event: Event) -> str:
        if name not in self.of:
            return f"{kind_of(event)} of hold {name}, which is not open"
        held, _ = self.of.pop(name)
        self.money -= held
        paid, released = body_of(event).get("money"), _whole(body_of(event).get("released"))
        out = _whole(paid) if kind_of(event) == CAPTURED else 0
        if out is None or released is None or out + released != held:
            return f"{kind_of(event)} of hold {name}: {paid} and {released} of the {held} held"
        return ""


@dataclass(slots=True)
class CheckedHolds:
    """Holds of all accounts; `faults` are those of the invariant."""

    holds: int = 0
    open: int = 0
    faults: Faults = field(default_factory=Faults)
    _late: dict[str, str] = field(default_factory=dict)

    def close(self, account_id: str, holds: OpenHolds) -> None:
        """All events of the account were read."""
        self.open += len(holds.of)
        if what := holds.late(_now()):
            if len(self._late) < MOST_LATE:
                self._late[account_id] = what
            else:
                self.faults.add(f"account {account_id}: {what}")

    async def settle(self, store: EventStore, patience: float) -> None:
        """Compare again what was late, for `patience` seconds, and judge what still is."""
        async for ids, _ in rounds(self._late, Patience(patience)):
            for account_id, events in (await store.load_many(ids)).items():
                if what := _open_after(events).late(_now()):
                    self._late[account_id] = what
                else:
                    del self._late[account_id]
        for account_id, what in self._late.items():
            self.faults.add(f"account {account_id}: {what}: does a worker run?")


def _open_after(events: Iterable[Event]) -> OpenHolds:
    holds = OpenHolds()
    for event in events:
        if kind_of(event) in OF_HOLDS:
            holds.follow(event)
    return holds


def _whole(money: object) -> int | None:
    return money if type(money) is int and money >= 0 else None


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time.astimezone(UTC).replace(tzinfo=None) if time is not None and time.tzinfo else time


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
