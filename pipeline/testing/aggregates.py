"""Given, when, then: what is decided on a command after what has happened.

    given(PARCEL, sent).when(Scan("Porto")).then(Decision("ParcelScanned", {"place": "Porto"}))
    given(PARCEL, sent, delivered).when(Scan("Porto")).refused(Delivered)
    given(LOAN, [bought], []).when(Lend(book, reader)).then([taken], [borrowed])

Pure: nothing is stored, and no time passes. What is decided is applied, as by the engine: so an
aggregate that can't apply what it decides fails here, too, as does one that changes a state.
"""

from collections.abc import Sequence
from typing import Any, Generic, Self, TypeVar, overload

from pipeline.model.aggregate import Aggregate, C, Decision, Joint, Refused
from pipeline.model.events import Event
from pipeline.model.versioned import Versioned, evolve, initial
from pipeline.testing.differences import require_equal, unchanged
from pipeline.testing.envelopes import Before, history, id_of

D = TypeVar("D")
"""What is expected: decisions, or those of each aggregate of a joint command."""
R = TypeVar("R", bound=Refused)


@overload
def given(of: Aggregate[C, Any], *before: Before) -> "Given[C, Decision]": ...


@overload
def given(of: Joint[C], *before: Sequence[Before]) -> "Given[C, Sequence[Decision]]": ...


def given(of: Any, *before: Any) -> "Given[Any, Any]":
    """An aggregate to which this has happened; or the aggregates of a joint command, and what has
    happened to each, in their order."""
    if isinstance(of, Joint):
        return Given(of, of.aggregates, before)
    return Given(of, [of], [before])


class Given(Generic[C, D]):
    """What has happened before the command."""

    def __init__(
        self,
        of: Aggregate[C, Any] | Joint[C],
        aggregates: Sequence[Aggregate[Any, Any]],
        before: Sequence[Sequence[Before]],
    ) -> None:
        self._of, self._aggregates, self._before = of, aggregates, before

    def when(self, command: C) -> "Outcome[D]":
        """The outcome of the command. Raises `AssertionError` for one that can't be stored, or if a
        state or an event was changed, and what the engine raises for what can't be applied."""
        before = self._states(self._before)
        try:
            with unchanged(f"{self._of.name}: decide", lambda: self._as_json(before)):
                turns = _turns(self._of, command, before)
        except Refused as refusal:
            return Outcome(refusal, before)
        pairs = zip(self._before, turns, strict=True)
        after = self._states([[*past, *decisions] for past, decisions in pairs])
        return Outcome(turns if isinstance(self._of, Joint) else turns[0], after)

    def _states(self, histories: Sequence[Sequence[Before]]) -> list[Any]:
        states = []
        pairs = zip(self._aggregates, histories, strict=True)
        for number, (aggregate, before) in enumerate(pairs, 1):
            events = history(before, aggregate.schema_of, number)
            state = initial(aggregate, id_of(events, number))
            for event in events:
                state = _evolved(aggregate, state, event)
            states.append(state.state)
        return states

    def _as_json(self, states: Sequence[Any]) -> list[Any]:
        return [each.to_json(state) for each, state in zip(self._aggregates, states, strict=True)]


class Outcome(Generic[D]):
    """What was decided, or the refusal; each check raises `AssertionError`."""

    def __init__(self, decided: Sequence[Any] | Refused, states: Sequence[Any]) -> None:
        self._decided, self._states = decided, [*states]

    def then(self, *expected: D) -> Self:
        """Exactly this was decided; nothing, if nothing is named."""
        __tracebackhide__ = True
        if isinstance(self._decided, Refused):
            raise AssertionError(f"refused: {self._decided!r}") from self._decided
        require_equal("decided", [*expected], [*self._decided])
        return self

    def refused(self, by: type[R]) -> R:
        """It was refused like this; returns the refusal."""
        __tracebackhide__ = True
        if isinstance(self._decided, by):
            return self._decided
        if isinstance(self._decided, Refused):
            raise AssertionError(f"not {by.__name__}: {self._decided!r}") from self._decided
        raise AssertionError(f"not refused by {by.__name__}, but decided: {self._decided}")

    def state(self, *expected: Any) -> Self:
        """The state afterwards; of a joint command that of each aggregate."""
        __tracebackhide__ = True
        require_equal("state", [*expected], self._states)
        return self


def _evolved(
    aggregate: Aggregate[Any, Any], before: Versioned[Any], event: Event
) -> Versioned[Any]:
    """After one more event."""

    def look() -> list[Any]:
        return [aggregate.to_json(before.state), event]  # as JSON: states need not be comparable

    with unchanged(f"{aggregate.name}: evolve", look):
        return evolve(aggregate, before, event)


def _turns(
    of: Aggregate[C, Any] | Joint[C], command: C, states: Sequence[Any]
) -> list[list[Decision]]:
    """The decisions of each aggregate."""
    if not isinstance(of, Joint):
        return [of.decide(command, states[0])]
    turns = [[*decisions] for decisions in of.decide(command, *states)]
    if len(turns) != len(states) or not all(turns):
        raise AssertionError(f"{of.name} must decide for each of {len(states)}, not {turns}")
    return turns
