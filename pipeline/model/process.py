"""A process manager, pure: which commands follow from events, and from the time that passes.

    SEARCH = Process(
        "search",
        initial=Search,
        react=react,
        on_due=on_due,
        kinds=("ParcelSent", "ParcelScanned"),
    )

There is one instance for each aggregate: its input is that aggregate's events of the `kinds`, in
order of version, and the deadlines that it set. These functions have no clock, do no I/O and make
no ids. The runner (`pipeline/processes/`) keeps the states, executes the commands, each once in
effect, and calls when a deadline is due.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from pipeline.model.aggregate import json_by_fields
from pipeline.model.events import Event
from pipeline.model.names import InvalidName, is_name

S = TypeVar("S")
"""The state of an instance. Nothing changes one: a reaction has the next."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Send:
    """A command to an aggregate of the application, by the aggregate's name and its id."""

    aggregate: str
    id: str
    command: Any


@dataclass(frozen=True, slots=True)
class Reaction(Generic[S]):
    """The state after an input, the commands to be executed, in their order, and when `on_due` is
    to be called next: a time with a time zone, None for never. It replaces the deadline before it.
    """

    state: S
    commands: Sequence[Send] = ()
    due: datetime | None = None


class Process(Generic[S]):
    """Reacts to events with commands. Its `name` has lower case letters, digits and `_`, and can't
    be changed later: the keys of its commands carry it.

    `initial()` is the state before the first event. `react(state, event)` returns what follows from
    an event, which is in its newest schema (`model.events.time_of` has its time). `on_due(state,
    due)` returns what follows from a deadline; the next one must be later. For what they can't
    react to they raise `ValueError`, or any other exception: then this instance is parked.

    `to_json` and `of_json` turn a state into what is kept of it, and back; a dataclass whose fields
    are texts, numbers, lists and objects needs neither. Another `version` means that the same
    inputs give another state: one that was kept by another version is made of the events again.
    """

    def __init__(
        self,
        name: str,
        *,
        initial: Callable[[], S],
        react: Callable[[S, Event], Reaction[S]],
        on_due: Callable[[S, datetime], Reaction[S]] | None = None,
        kinds: Iterable[str],
        to_json: Callable[[S], Json] | None = None,
        of_json: Callable[[Json], S] | None = None,
        version: int = 1,
    ) -> None:
        if not is_name(name):
            raise InvalidName(f"{name!r} names no process: lower case letters, digits and _")
        self.name, self.version, self.initial = name, version, initial
        self._react, self._on_due = react, on_due
        self.kinds = frozenset(kinds)
        if to_json is None or of_json is None:
            to_json, of_json = json_by_fields(name, initial())
        self.to_json, self.of_json = to_json, of_json

    def __repr__(self) -> str:
        return f"Process({self.name!r})"

    def react(self, state: S, event: Event) -> Reaction[S]:
        """What follows from an event. Raises `ValueError`, and whatever the process raises."""
        return self._sound(self._react(state, event))

    def on_due(self, state: S, due: datetime) -> Reaction[S]:
        """What follows from a deadline. Raises `ValueError`, and whatever the process raises."""
        if self._on_due is None:
            raise ValueError(f"{self.name} has no on_due")
        reaction = self._sound(self._on_due(state, due))
        # Else it would be due again at once, and for ever.
        if reaction.due is not None and reaction.due <= due:
            raise ValueError(f"{self.name}: the deadline after {due} must be later than it")
        return reaction

    def _sound(self, reaction: Reaction[S]) -> Reaction[S]:
        """The reaction with its deadline in UTC, and in whole milliseconds, as MongoDB keeps it:
        rounded up, for it must not come early."""
        due = reaction.due
        if due is None:
            return reaction
        if due.tzinfo is None:
            raise ValueError(f"{self.name}: the deadline {due} has no time zone")
        if self._on_due is None:
            raise ValueError(f"{self.name} sets a deadline, but has no on_due")
        due = due.astimezone(UTC) + timedelta(microseconds=-due.microsecond % 1000)
        return Reaction(reaction.state, reaction.commands, due)
