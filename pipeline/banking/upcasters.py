"""The older schemas of the bank's events."""

from collections.abc import Mapping
from typing import Any, Final

from pipeline.banking.events import FROZEN
from pipeline.model.upcasters import Upcaster


def _without_reason(event: Mapping[str, Any]) -> dict[str, Any]:
    """`AccountFrozen` had no reason at first."""
    return {**event["body"], "reason": ""}


UPCASTERS: Final[Mapping[tuple[str, int], Upcaster]] = {(FROZEN, 1): _without_reason}
