"""Invariant 13: unique indexes of the event store, aliases that lead to one index each, and streams
on as many servers as they should be."""

from collections.abc import Collection
from typing import Any, Final

from tests.torture.breaches import Breaches
from tests.torture.checker.fold import PROJECTIONS

_KEYS: Final = (["slot", "account_id", "version"], ["idempotency_key"])
_EVERY_KEY: Final = {"idempotency_key": {"$exists": True}}
"""The filter of an index that has every key all the same."""


def check_guards(
    unique: list[dict[str, Any]],
    aliases: dict[str, list[str]],
    breaches: Breaches,
    shown: Collection[str] = PROJECTIONS,
    checkpoints: str = "bank-",
) -> None:
    """`unique`: MongoDB's unique indexes, with the number of events that each lacks; `aliases`: the
    indexes of each in Elasticsearch. `shown` are those of the projections; that of the checkpoints
    begins with `checkpoints`."""
    there = [list(each["key"]) for each in unique if _whole(each)]
    for key in _KEYS:
        breaches.judge(13, key in there, f"no unique index of {', '.join(key)}")
    # Writers write by those of generations, and by that of the checkpoints.
    written = (*(f"{name}-g" for name in shown), checkpoints)
    for alias in (*shown, *(name for name in aliases if name.startswith(written))):
        indexes = aliases.get(alias, [])
        breaches.judge(13, len(indexes) == 1, f"the alias {alias} has the indexes {indexes}")


def check_replicas(replicas: dict[str, int], wanted: int, breaches: Breaches) -> None:
    """`replicas` of each stream, by its name."""
    for stream, count in replicas.items():
        breaches.judge(13, count == wanted, f"{stream} has {count} replicas, not {wanted}")


def _whole(index: dict[str, Any]) -> bool:
    """Whether it has every event that it should have."""
    partial = index.get("partialFilterExpression") not in (None, _EVERY_KEY)
    return not partial and not index.get("hidden") and not index.get("lacking")
