"""A projection that a bank may keep besides: each event's share in the turnover of its day."""

from datetime import UTC, datetime
from typing import Any, Final

from pipeline.banking.balance import time_of
from pipeline.banking.events import KINDS
from pipeline.banking.money import moved
from pipeline.model.aggregate import UnknownKind
from pipeline.model.events import Event
from pipeline.model.groups import Groups
from pipeline.model.projection import Document, Projection


class Flow(Document):
    """The `money` of an event in minor units, 0 if it has none. `day_and_kind`, such as
    `2026-11-29:MoneyDeposited`, is of the day in UTC."""

    account_id: str
    day_and_kind: str
    money: int


def after(_: Flow | None, event: Event) -> dict[str, Any]:
    """The event's share, whatever came before it."""
    kind, body = event["kind"], event["body"]
    if kind not in KINDS:
        raise UnknownKind(kind)
    return {
        "day_and_kind": f"{_day(event)}:{kind}",
        "money": moved(body["money"]) if "money" in body else 0,
    }


def _day(event: Event) -> str:
    moment = datetime.fromisoformat(time_of(event))
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date().isoformat()


TURNOVER: Final = Groups("turnover", by="day_and_kind", sums=("money",))
"""Events and their money, by day and kind."""

FLOWS: Final = Projection(
    "flows",
    after,
    {"day_and_kind": {"type": "keyword"}, "money": {"type": "long"}},
    every=True,
    groups=[TURNOVER],
)
