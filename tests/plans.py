"""What `explain` answers: how MongoDB goes about a query, in the names of its stages."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

_KEPT: Final = {
    "find": ("find", "filter", "sort", "projection", "limit", "skip", "hint"),
    "count": ("count", "query", "limit", "skip", "hint"),
    "aggregate": ("aggregate", "pipeline", "cursor", "hint"),
}
"""Of a command, what says how it is answered. All else is the session's and the driver's."""

_INDEXED: Final = frozenset(
    {"IXSCAN", "IDHACK", "COUNT_SCAN", "DISTINCT_SCAN", "RECORD_STORE_FAST_COUNT", "EOF"}
)


def explainable(command: Mapping[str, Any]) -> dict[str, Any] | None:
    """The command as `explain` takes it; None for one that asks for nothing, or for changes.

    An update is explained by how it finds what it changes: the embedded server tells only that.
    """
    name = next(iter(command))
    if name == "update":
        return {"find": command["update"], "filter": command["updates"][0]["q"]}
    if name == "aggregate" and "$changeStream" in command["pipeline"][0]:
        return None
    kept = {each: command[each] for each in _KEPT.get(name, ()) if each in command}
    return kept or None


def stages(answer: Any) -> Iterator[str]:
    """The stages of the winning plans in an answer, of all shards and pipelines, outermost first.

    A plan that was thought of and not taken is no part of it.
    """
    if isinstance(answer, list):
        for each in answer:
            yield from stages(each)
    elif isinstance(answer, Mapping):
        if isinstance(answer.get("stage"), str):
            yield answer["stage"]
        for name, each in answer.items():
            if name not in ("rejectedPlans", "command", "executionStats", "slotBasedPlan"):
                yield from stages(each)


def indexed(names: list[str]) -> bool:
    """Whether an index serves it, and no scan of the collection takes part."""
    found = any(name in _INDEXED or name.startswith("EXPRESS") for name in names)
    return found and "COLLSCAN" not in names


def sorts(names: list[str]) -> bool:
    """Whether what was found is sorted in memory."""
    return "SORT" in names
