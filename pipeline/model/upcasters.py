"""Schema evolution: an event that was stored in an older schema is brought to the newest one.

What is stored never changes. An event's `schema` is the version of its kind's body. Every event
that is read from the store or the stream to be folded is brought to the newest schema, step by
step, so that a fold knows one form of each kind.

The engine knows no kinds. A process goes by the upcasters of its application: its own, and those
that packages declare as entry points of the group `{application}.upcasters`, mappings from kind and
schema to an `Upcaster`, without a gap. So every process knows the same.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar, cast

from pipeline.model.derived import Upcast

Upcaster = Callable[[Mapping[str, Any]], dict[str, Any]]
"""From an event of one schema to its body in the next one."""

Upcasters = Mapping[tuple[str, int], Upcaster]
"""By kind and schema; a kind's newest schema is the one that has none."""

E = TypeVar("E", bound=Mapping[str, Any])


class Unreadable(ValueError):
    """An event of a schema that is not known here, or that is broken in an older one."""


def united(several: Iterable[Upcasters]) -> Upcasters:
    """All of them as one. Raises `ValueError` if two differ about one kind and schema."""
    known: dict[tuple[str, int], Upcaster] = {}
    for steps in several:
        twice = known.keys() & steps.keys()
        if differ := sorted(each for each in twice if known[each] is not steps[each]):
            raise ValueError(f"two upcasters of {differ}")
        known |= steps
    return known


def require_known(more: Upcasters, own: Upcasters, kinds: Collection[str]) -> None:
    """Raise `ValueError` if one of `more` is of these kinds, of aggregates, which know `own` alone.

    Commands would not be decided on what is projected.
    """
    if unknown := sorted({kind for kind, _ in more.keys() - own.keys() if kind in kinds}):
        raise ValueError(f"upcasters of {unknown}: these are an aggregate's, which must have them")


_chosen: Upcasters | None = None


def choose(application: str, own: Upcasters, kinds: Collection[str] = ()) -> None:
    """Go by those of an application from now on. `kinds`: of its aggregates. Raises
    RuntimeError."""
    global _chosen
    _chosen = _declared(f"{application}.upcasters", own, kinds)


@contextmanager
def going_by(application: str, own: Upcasters) -> Iterator[None]:
    """Go by those of an application in the block. Raises RuntimeError."""
    global _chosen
    before = _chosen
    choose(application, own)
    try:
        yield
    finally:
        _chosen = before


def upcasters() -> Upcasters:
    """Those that this process goes by. Raises RuntimeError."""
    return _of_bank() if _chosen is None else _chosen


@cache
def _of_bank() -> Upcasters:
    """Those of a process that has chosen no application."""
    for each in entry_points(group="bank.applications", name="bank"):
        bank = each.load()
        return _declared("bank.upcasters", bank.upcasters, bank.kinds)
    # Without them events would be stored as of a schema that they do not have.
    raise RuntimeError("no entry points of bank.applications: install the package again")


def _declared(group: str, own: Upcasters, kinds: Collection[str]) -> Upcasters:
    """An application's own upcasters, and those of the entry points."""
    known = own
    for each in entry_points(group=group):
        try:
            # The very same ones may be declared again: earlier releases of the bank did that.
            known = united([known, each.load()])
            require_known(known, own, kinds)
        except ValueError as error:
            raise RuntimeError(f"{group}: {each.name} brings {error}") from error
    return dict(known)


def newest(kind: str, known: Upcasters | None = None) -> int:
    """The schema in which events of the kind are made, and folded.

    `known`, here and below: the upcasters to go by, by default all declared ones.
    """
    known, schema = upcasters() if known is None else known, 1
    while (kind, schema) in known:
        schema += 1
    return schema


def upcast(event: E, known: Upcasters | None = None) -> E:
    """The event in its newest schema, or, if that fails, as it is: a fold will refuse it."""
    try:
        brought = _brought(event, upcasters() if known is None else known)
        return event if brought is event else cast(E, Upcast(brought, event))
    except Exception:  # people can write anything into the store, and an upcaster meets it
        return event


def require_newest(event: Mapping[str, Any], known: Upcasters | None = None) -> None:
    """Raise `Unreadable` unless the event has the newest schema of its kind."""
    known = upcasters() if known is None else known
    kind, schema = event["kind"], event.get("schema", 1)
    if schema == (latest := newest(kind, known)):
        return
    if isinstance(schema, int) and schema > latest:
        raise Unreadable(f"schema {schema} of {kind} is newer than {latest}")
    try:
        _brought(event, known)
    except Exception as error:
        raise Unreadable(f"no schema {schema} of {kind}: {error!r}") from error
    raise Unreadable(f"schema {schema!r} of {kind} is not known, the newest is {latest}")


def _brought(event: E, known: Upcasters) -> E:
    kind, schema = event["kind"], event.get("schema", 1)
    while (step := known.get((kind, schema))) is not None:
        schema += 1
        event = cast(E, {**event, "body": step(event), "schema": schema})
    return event
