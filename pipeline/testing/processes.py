"""What a process does after some events, and when its deadline has come.

    reacted(SEARCH, sent).sends().due(sent_at + timedelta(days=2))
    reacted(SEARCH, sent).when_due().sends(Send("parcel", parcel_id, Search()))

Pure: nothing is executed, and no time passes but to a deadline.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Self

import orjson

from pipeline.model.events import decode, encode
from pipeline.model.process import Process, Reaction, S, Send
from pipeline.model.upcasters import going_by, upcast
from pipeline.testing.differences import require_equal, unchanged
from pipeline.testing.envelopes import Before, history, id_of

if TYPE_CHECKING:
    from pipeline.application import Application


class Reacted(Generic[S]):
    """What a process did last; each check raises `AssertionError`. `id`: of the aggregate."""

    def __init__(self, process: Process[S], aggregate_id: str, reaction: Reaction[S]) -> None:
        self._process, self.id, self._reaction = process, aggregate_id, reaction

    def sends(self, *expected: Send) -> Self:
        """Exactly these commands followed from the last input; none, if none is named."""
        __tracebackhide__ = True
        require_equal(f"{self._process.name} sends", [*expected], [*self._reaction.commands])
        return self

    def due(self, expected: datetime | None) -> Self:
        """This is its next deadline; None for none. A time without a time zone is one in UTC."""
        __tracebackhide__ = True
        if expected is not None and expected.tzinfo is None:
            expected = expected.replace(tzinfo=UTC)
        require_equal(f"{self._process.name} is due", expected, self._reaction.due)
        return self

    def state(self, expected: S) -> Self:
        """Its state afterwards."""
        __tracebackhide__ = True
        require_equal(f"{self._process.name}: state", expected, self._reaction.state)
        return self

    def when_due(self) -> "Reacted[S]":
        """What it does at its deadline, before any other event."""
        __tracebackhide__ = True
        due = self._reaction.due
        if due is None:
            raise AssertionError(f"{self._process.name} has no deadline")
        state = _kept(self._process, self._reaction.state)
        with unchanged(self._process.name, lambda: self._process.to_json(state)):
            reaction = self._process.on_due(state, due)
        return Reacted(self._process, self.id, _sound(self._process, reaction))


def reacted(
    process: Process[S], *before: Before, application: "Application | None" = None
) -> Reacted[S]:
    """Have a process react to what has happened to one aggregate: to the events of its kinds.
    `sends` and the others are about the last of these.

    Events of older schemas are brought to the newest by the upcasters of the `application`, by
    default of the one that the process runs.

    Raises what the process raises, and `AssertionError` if it changes a state or an event, reacts
    to an event from the stream, where times are texts, in another way, or if a state or a command
    could not be kept.
    """
    if application is not None:
        with going_by(application.name, application.upcasters):
            return reacted(process, *before)
    reaction = Reaction(process.initial())
    events = history(before, lambda _: None)
    for event in events:
        if event["kind"] not in process.kinds:
            continue
        event, state = upcast(event), _kept(process, reaction.state)

        def look(state: Any = state, event: Any = event) -> Sequence[Any]:
            return [process.to_json(state), event]

        with unchanged(process.name, look):
            reaction = _sound(process, process.react(state, event))
        streamed = process.react(state, decode(encode(event)))
        require_equal(f"{process.name}, of an event from the stream", reaction, streamed)
    return Reacted(process, id_of(events), reaction)


def _kept(process: Process[S], state: S) -> S:
    """The state as it comes back from the store."""
    plain = process.to_json(state)
    try:
        back = orjson.loads(orjson.dumps(plain))
    except TypeError as error:
        raise AssertionError(f"{process.name}: {plain} can't be kept: {error}") from error
    require_equal(f"{process.name} keeps another state", {**plain}, back)
    return process.of_json(back)


def _sound(process: Process[S], reaction: Reaction[S]) -> Reaction[S]:
    """The reaction, if its state can be kept and its commands be executed once."""
    # Here: it imports MongoDB's driver, and pytest imports this package in each run.
    from pipeline.commands.connection import fingerprint

    _kept(process, reaction.state)
    for each in reaction.commands:
        try:
            fingerprint(each.aggregate, [each.id], each.command)
        except TypeError as error:
            raise AssertionError(f"{process.name}: {error}") from error
    return reaction
