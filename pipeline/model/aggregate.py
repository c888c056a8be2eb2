"""An aggregate, pure: what commands may do to one thing, and what its events make of it.

    PARCEL = Aggregate(
        "parcel",
        initial=Parcel,
        decide=decide,
        evolve=evolve,
        kinds=("ParcelSent", "ParcelScanned"),
    )

These functions have no clock, do no I/O and make no ids. The write engine (`pipeline/commands/`)
loads the state, has a command decided, stores the events and keeps states and snapshots.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from pipeline.model.events import Event
from pipeline.model.names import InvalidName, is_name
from pipeline.model.upcasters import Upcasters, as_stored, newest, require_newest, upcast

C = TypeVar("C")
"""A command."""
S = TypeVar("S")
"""The state of an aggregate. Nothing changes one: `evolve` makes the next."""

Json = Mapping[str, Any]


class Refused(Exception):
    """A command that breaks a rule. Nothing was stored.

    `decide` raises subclasses of it, each named for its rule; the engine fills in whose rule it
    was. The text is for people; without one the class's docstring says it.
    """

    status: ClassVar[int] = 409
    """Of the answer to a command that came by HTTP: 409, or a subclass's own, such as 422."""

    def __init__(self, text: str = "", *, aggregate_id: str = "") -> None:
        super().__init__(text)
        self.aggregate_id = aggregate_id


class UnknownKind(ValueError):
    """An event is of none of the aggregate's kinds."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"event of unknown kind {kind}")
        self.kind = kind


class Decision(NamedTuple):
    """The kind and body of a new event; the engine adds the envelope."""

    kind: str
    body: Mapping[str, Any]


class Aggregate(Generic[C, S]):
    """A kind of thing that is decided on as a whole. Its `name` has lower case letters, digits and
    `_`.

    `initial()` is the state before the first event. `decide(command, state)` returns or yields the
    decisions, none if there is nothing to do, or raises a subclass of `Refused`.
    `evolve(state, event)` returns the state after one more event, which is of one of the `kinds`
    and in its newest schema; it raises `ValueError`, or any other exception, for what it can't
    apply.

    `upcasters` lead from the older schemas of these kinds to the newest, without a gap. Another
    `version` means that the same events give another state: snapshots of another one are ignored.
    `to_json` and `of_json` turn a state into what a snapshot stores, and back; a dataclass whose
    fields are texts, numbers, lists and objects needs neither.

    `commands`: those that clients may send by HTTP, frozen dataclasses of different names.
    """

    def __init__(
        self,
        name: str,
        *,
        initial: Callable[[], S],
        decide: Callable[[C, S], Iterable[Decision]],
        evolve: Callable[[S, Event], S],
        kinds: Iterable[str],
        upcasters: Upcasters | None = None,
        version: int = 1,
        to_json: Callable[[S], Json] | None = None,
        of_json: Callable[[Json], S] | None = None,
        commands: Iterable[type[Any]] = (),
    ) -> None:
        if not is_name(name):
            raise InvalidName(f"{name!r} names no aggregate: lower case letters, digits and _")
        self.name, self.version = name, version
        self.initial, self.evolve, self._decide = initial, evolve, decide
        self.upcasters = dict(upcasters or {})
        self.schemas = {kind: newest(kind, self.upcasters) for kind in sorted(kinds)}
        """The newest schema of each kind."""
        if strange := {kind for kind, _ in self.upcasters} - self.schemas.keys():
            raise ValueError(f"{name}: upcasters of {sorted(strange)}, which are none of its kinds")
        if to_json is None or of_json is None:
            to_json, of_json = _by_fields(name, initial())
        self.to_json, self.of_json = to_json, of_json
        self.commands = _by_name(name, commands)

    def __repr__(self) -> str:
        return f"Aggregate({self.name!r})"

    def decide(self, command: C, state: S) -> list[Decision]:
        """The decisions, or `Refused`."""
        decisions = self._decide(command, state)
        return decisions if isinstance(decisions, list) else [*decisions]

    def schema_of(self, kind: str) -> int:
        """The schema in which a decision of that kind is stored; raises `ValueError`."""
        if kind not in self.schemas:
            raise ValueError(f"{self.name} decides {kind}, which is none of its kinds")
        return self.schemas[kind]

    def newest_form(self, event: Event) -> Event:
        """The event in the newest schema of its kind; raises `ValueError` if there is none."""
        newest_schema = self.schemas.get(event["kind"])
        if type(event) is dict and event.get("schema", 1) == newest_schema:  # nearly always
            return event
        event = as_stored(event)  # a process may go by the upcasters of another application
        if newest_schema is None:
            raise UnknownKind(event["kind"])
        event = upcast(event, self.upcasters)
        require_newest(event, self.upcasters)
        return event


class Joint(Generic[C]):
    """A command over several aggregates: decided together, and stored together or not at all.

        def decide(move: Move, source: Shelf, target: Shelf) -> Iterator[Sequence[Decision]]:
            yield [Decision("BoxTaken", {"box": move.box})]
            if target.full:
                raise ShelfFull
            yield [Decision("BoxPut", {"box": move.box})]

    `decide(command, *states)` is a generator. It sees all states and yields the decisions of each
    aggregate, in their order and at least one for each: only an aggregate that gets an event is
    certain to be still in the state that was decided on. A `Refused` that names no aggregate is
    that of the one whose decisions are due, or of the first if none are.

    `commands`: those that clients may send by HTTP, as of an `Aggregate`. `ids(command)` then
    returns the ids of the aggregates, in their order.
    """

    def __init__(
        self,
        name: str,
        aggregates: Sequence[Aggregate[Any, Any]],
        decide: Callable[..., Iterable[Iterable[Decision]]],
        *,
        commands: Iterable[type[Any]] = (),
        ids: Callable[[C], Sequence[str]] | None = None,
    ) -> None:
        self.name, self.aggregates, self.decide = name, tuple(aggregates), decide
        self.commands, self.ids = _by_name(name, commands), ids
        if self.commands and not (ids and is_name(name)):
            raise ValueError(f"{name!r} takes commands: give it ids, and a name as aggregates have")

    def __repr__(self) -> str:
        return f"Joint({self.name!r})"


def _by_name(name: str, commands: Iterable[type[Any]]) -> Mapping[str, type[Any]]:
    found: dict[str, type[Any]] = {}
    for each in commands:
        if not is_dataclass(each):
            raise TypeError(f"{name}: the command {each.__name__} is no dataclass")
        if each.__name__ in found:
            raise ValueError(f"{name} has two commands {each.__name__}")
        found[each.__name__] = each
    return found


def _by_fields(name: str, sample: S) -> tuple[Callable[[S], Json], Callable[[Json], S]]:
    """How a dataclass becomes an object of its fields, and back."""
    if not is_dataclass(sample):
        raise TypeError(f"{name}: a state that is no dataclass needs to_json and of_json")
    names = [each.name for each in fields(sample)]
    make: Callable[..., Any] = type(sample)

    def to_json(state: S) -> Json:
        return {each: getattr(state, each) for each in names}

    def of_json(json: Json) -> S:
        return make(**json)  # type: ignore[no-any-return]

    return to_json, of_json
