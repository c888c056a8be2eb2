"""An application: what the engine is handed of those who build on it, as one value.

    POST = Application("post", aggregates=[PARCEL], joints=[LOADING], projections=[PLACES])

A process runs one application, which `BANK_APPLICATION` names. Its name is in all names that it has
at the servers (`model/names.py`), so several applications may share them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, NamedTuple, Protocol

from pipeline.model.aggregate import Aggregate, Joint
from pipeline.model.events import Event
from pipeline.model.names import BANK, Names, names_of
from pipeline.model.projection import Projection
from pipeline.model.upcasters import Upcasters, require_known, united

GROUP: Final = "bank.applications"
"""The group of entry points whose names the setting may use without the module."""

LEAST_INVARIANT: Final = 100
"""The least number of an application's own invariant."""

Turnover = Callable[[Event], tuple[str, int]]
"""The name that an event is counted by, and its amount in minor units. Never raises."""


class Check(Protocol):
    """One run of an invariant over all events, account by account, in order of version."""

    def enter(self, event: Event) -> Iterable[str]:
        """What violates the invariant, in words, now that this event is read. Never raises."""

    def end(self) -> Iterable[str]:
        """What violates it, now that all are read."""


class Invariant(NamedTuple):
    """What must hold of the application's events: `bank verify` begins a check of it each time.

    `number` is its own, from `LEAST_INVARIANT` on: those below are the engine's and the bank's.
    """

    number: int
    title: str
    begin: Callable[[], Check]


def by_kind(event: Event) -> tuple[str, int]:
    """Count events by their kind, without an amount."""
    return str(event.get("kind")), 0


@dataclass(frozen=True, eq=False)
class Application:
    """Of lower case letters, digits and `_`: its `name`. The first of the `projections` is the one
    that commands and routes are about where none is named. `joints` decide over several aggregates,
    of which some may be in no other place, such as `CLAIM`.

    `upcasters` bring older schemas of its events to the next one: those of its `aggregates`, and
    what is given here besides of kinds that none of them has. Packages declare more of these by the
    entry points `{name}.upcasters`.
    `turnover` says what the table of activity counts.

    Raises `InvalidName`, and `ValueError` if two upcasters are of one kind and schema, one is of an
    aggregate that does not have it, two aggregates or two joints have one name, two have a kind of
    events in common, or an invariant has a number that is not its own.
    """

    name: str
    projections: Sequence[Projection] = ()
    aggregates: Sequence[Aggregate[Any, Any]] = ()
    joints: Sequence[Joint[Any]] = ()
    upcasters: Upcasters = field(default_factory=dict)
    invariants: Sequence[Invariant] = ()
    turnover: Turnover = by_kind
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        names = names_of(self.name)
        ours = tuple(each.within(names) for each in self.projections)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "projections", ours)
        for several in (self.all_aggregates, self.joints):
            _require_names(self.name, several)
        _require_own_kinds(self.name, self.all_aggregates)
        own = united(each.upcasters for each in self.all_aggregates)
        object.__setattr__(self, "upcasters", united([own, self.upcasters]))
        require_known(self.upcasters, own, self.kinds)
        if names != BANK:
            _require_own_numbers(self.name, self.invariants)

    @property
    def all_aggregates(self) -> Sequence[Aggregate[Any, Any]]:
        """Its aggregates, and those that only its joints have."""
        of_joints = [each for joint in self.joints for each in joint.aggregates]
        return tuple(dict.fromkeys([*self.aggregates, *of_joints]))

    @property
    def kinds(self) -> frozenset[str]:
        """Of its aggregates' events."""
        return frozenset(kind for each in self.all_aggregates for kind in each.schemas)


def _require_names(application: str, several: Sequence[Aggregate[Any, Any] | Joint[Any]]) -> None:
    names = [each.name for each in several]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise ValueError(f"{application} has two of the name {twice[0]}")


def _require_own_kinds(application: str, aggregates: Sequence[Aggregate[Any, Any]]) -> None:
    """Else one could be read, and have its snapshots trusted, as the other."""
    owners: dict[str, str] = {}
    for each in aggregates:
        for kind in each.schemas:
            if (owner := owners.setdefault(kind, each.name)) != each.name:
                raise ValueError(f"{application}: {kind} is a kind of {owner} and of {each.name}")


def _require_own_numbers(application: str, invariants: Iterable[Invariant]) -> None:
    numbers = [each.number for each in invariants]
    if low := [each for each in numbers if each < LEAST_INVARIANT]:
        why = f"those below {LEAST_INVARIANT} are the engine's and the bank's"
        raise ValueError(f"{application}: {low[0]} is no number of its own invariants: {why}")
    if len({*numbers}) < len(numbers):
        raise ValueError(f"{application} has two invariants of one number")


class UnknownApplication(ValueError):
    """A setting names an application that can't be found; the message is for people."""


@cache
def application(name: str) -> Application:
    """That of a setting: an entry point's name, or `package.module:NAME`. Raises
    `UnknownApplication`."""
    module, colon, attribute = name.partition(":")
    if not colon:
        declared = {each.name: each.value for each in entry_points(group=GROUP)}
        if not declared:
            why = f"no entry points of {GROUP}: install the package again (make install)"
            raise UnknownApplication(why)
        if name not in declared:
            raise UnknownApplication(
                f"{name!r} is not {' or '.join(declared)}; name your own as package.module:NAME"
            )
        module, _, attribute = declared[name].partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownApplication(f"{name}: {error}") from error
    if not isinstance(found, Application):
        raise UnknownApplication(f"{name} is no Application")
    return found
