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

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from pipeline.model.derived import Upcast, before_upcast
from pipeline.model.events import Event
from pipeline.model.names import InvalidName, is_name
from pipeline.model.upcasters import Upcasters, newest, require_newest, upcast

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


class DoneBefore(Refused):
    """That is done once only, and was done before."""


class UnknownKind(ValueError):
    """An event is of none of the aggregate's kinds. Projections raise it, too: one cause has one
    wording."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"event of unknown kind {kind}")
        self.kind = kind


class Decision(NamedTuple):
    """The kind and body of a new event; the engine adds the envelope."""

    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Forget:
    """What `bank forget` sends: any aggregate with personal fields takes it, whatever its state."""


FORGET: Final = Forget()


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

    `bodies`: what the body of an event looks like, by its kind, or by kind and schema for an older
    one: a `TypedDict` or dataclass, or a JSON Schema. What is not there may be any object. They
    describe events to others, and check none.

    `personal`: by kind, the fields of the body that say who somebody is, texts. They are stored
    encrypted (`personal.py`). `forgotten` is the kind of the event that says that the key of all
    before it is deleted: what `evolve` and the projections make of it must have nothing of these
    fields, because from then on older events are read without them.
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
        bodies: Mapping[str | tuple[str, int], Any] | None = None,
        personal: Mapping[str, Collection[str]] | None = None,
        forgotten: str = "",
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
            to_json, of_json = json_by_fields(name, initial())
        self.to_json, self.of_json = to_json, of_json
        self.commands = _by_name(name, commands)
        self.bodies = _by_schema(name, bodies or {}, self.schemas)
        self.personal, self.forgotten = dict(personal or {}), forgotten
        if texts := sorted(kind for kind, each in self.personal.items() if isinstance(each, str)):
            raise TypeError(f"{name}: the personal fields of {texts[0]} are no list of names")
        if strange := {*self.personal, *([forgotten] if forgotten else ())} - self.schemas.keys():
            raise ValueError(f"{name}: {sorted(strange)} are none of its kinds")
        if bool(self.personal) != bool(forgotten) or forgotten in self.personal:
            raise ValueError(f"{name}: personal fields need a kind of their own for forgetting")

    def __repr__(self) -> str:
        return f"Aggregate({self.name!r})"

    def decide(self, command: C, state: S) -> list[Decision]:
        """The decisions, or `Refused`."""
        if command is FORGET:
            return [Decision(self.forgotten, {})]
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
        if event.get("schema", 1) == newest_schema and not isinstance(event, Upcast):
            return event  # nearly always
        event = before_upcast(event)  # a process may go by the upcasters of another application
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

    `once(command)` names something of which such a command is executed once, for ever and whoever
    asks: then the last aggregate's event has an idempotency key made of it. The next command of
    that name is refused with `DoneBefore`.

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
        once: Callable[[C], str] | None = None,
    ) -> None:
        self.name, self.aggregates, self.decide = name, tuple(aggregates), decide
        self.commands, self.ids = _by_name(name, commands), ids
        if self.commands and not (ids and is_name(name)):
            raise ValueError(f"{name!r} takes commands: give it ids, and a name as aggregates have")
        self._once = once
        if once is not None and len(self.aggregates) < 2:
            raise ValueError(f"{name}: the first aggregate's event has the client's key")

    def only_key(self, command: C) -> str | None:
        """The key of what is done once. It has a character that no client's key can have: by HTTP
        they are printable ASCII."""
        return f"{self.name}→{self._once(command)}" if self._once is not None else None

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


def _by_schema(
    name: str, bodies: Mapping[str | tuple[str, int], Any], schemas: Mapping[str, int]
) -> Mapping[tuple[str, int], Any]:
    """Each by kind and schema; that of a kind alone is of its newest one."""
    found = {
        (each, schemas.get(each, 1)) if isinstance(each, str) else each: body
        for each, body in bodies.items()
    }
    if strange := sorted(e for e in found if not 1 <= e[1] <= schemas.get(e[0], 0)):
        raise ValueError(f"{name}: bodies of {strange}, which are none of its kinds and schemas")
    return found


def json_by_fields(name: str, sample: S) -> tuple[Callable[[S], Json], Callable[[Json], S]]:
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
