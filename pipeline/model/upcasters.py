"""Schema evolution: events that were stored in an older form, brought to the newest one; pure.

What is stored never changes. An event's `schema` is the version of its kind's body; wherever an
event leaves the store or the stream to be folded it is brought to the newest, step by step. So
whoever folds knows one form of each kind. This stands below the events: it knows kinds by name.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

Upcaster = Callable[[Mapping[str, Any]], dict[str, Any]]
"""From an event of one schema to its body in the next one."""

E = TypeVar("E", bound=Mapping[str, Any])


class Unreadable(ValueError):
    """An event of a schema that is not known here, or that is broken in an older one."""


def _frozen_for_no_known_reason(event: Mapping[str, Any]) -> dict[str, Any]:
    return {**event["body"], "reason": ""}


UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {
    ("AccountFrozen", 1): _frozen_for_no_known_reason,
}
"""By kind and schema, without a gap; a kind's newest schema is the one that has none."""


def newest(kind: str) -> int:
    """The schema in which events of the kind are made, and folded."""
    schema = 1
    while (kind, schema) in UPCASTERS:
        schema += 1
    return schema


def upcast(event: E) -> E:
    """The event in its newest form. One that has none is left as it is, for a fold to refuse."""
    try:
        return _brought(event)
    except Exception:  # an upcaster meets whatever somebody put into the store by hand
        return event


def require_newest(event: Mapping[str, Any]) -> None:
    """Raise `Unreadable` unless the event has the newest form of its kind."""
    kind, schema = event["kind"], event.get("schema", 1)
    if schema == (known := newest(kind)):
        return
    if isinstance(schema, int) and schema > known:
        raise Unreadable(f"schema {schema} of {kind} is newer than {known}")
    try:
        _brought(event)
    except Exception as error:
        raise Unreadable(f"no schema {schema} of {kind}: {error!r}") from error
    raise Unreadable(f"schema {schema!r} of {kind} is not known, the newest is {known}")


def _brought(event: E) -> E:
    kind, schema = event["kind"], event.get("schema", 1)
    while (step := UPCASTERS.get((kind, schema))) is not None:
        schema += 1
        event = cast(E, {**event, "body": step(event), "schema": schema})
    return event
