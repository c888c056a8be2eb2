"""Amounts of money: whole numbers of minor units."""

from collections.abc import Mapping
from typing import Any, Final

from pipeline.banking.events import KINDS
from pipeline.model.events import Event

MAX_MONEY: Final = 2**53
"""Money stays below this, so that it is exact in every JSON reader."""

_LONGEST: Final = 2**63 - 1


def moved(money: Any) -> int:
    """An amount in minor units as an event may have it; raises `TypeError`, `ValueError`."""
    if type(money) is int and 0 <= money < MAX_MONEY:  # nearly always
        return money
    if not 0 <= whole(money) < MAX_MONEY:
        raise ValueError(f"{money} is no amount of money")
    return int(money)


def whole(money: Any) -> int:
    """Minor units as a document may have them; raises `TypeError`, `ValueError`."""
    if not isinstance(money, int) or isinstance(money, bool):
        raise TypeError(f"money {money!r}")
    if abs(money) > _LONGEST:
        raise ValueError(f"{money} is out of range")
    return money


def turnover(event: Event) -> tuple[str, int]:
    """The event's kind, `other` if it is not the bank's, and its money, 0 if it has none."""
    kind, body = str(event.get("kind")), event.get("body")
    if kind not in KINDS:
        kind = "other"
    try:
        return kind, moved(body.get("money")) if isinstance(body, Mapping) else 0
    except (TypeError, ValueError):
        return kind, 0
