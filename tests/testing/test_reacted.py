"""What a process does: what holds passes, what does not is told with both sides."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.application import Application
from pipeline.model.aggregate import Decision
from pipeline.model.events import Event, time_of
from pipeline.model.names import InvalidName
from pipeline.model.process import Process, Reaction, Send
from pipeline.model.projection import Projection
from pipeline.testing import reacted

OPENED, CLOSED = Decision("Opened", {"days": 2}), Decision("Closed", {})
FIRST = datetime(2025, 1, 1, 0, 0, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Case:
    id: str = ""
    reminders: int = 0


@dataclass(frozen=True)
class Remind:
    number: int


def react(case: Case, event: Event) -> Reaction[Case]:
    if event["kind"] == "Closed":
        return Reaction(Case(), [Send("case", case.id, Remind(0))])
    due = time_of(event) + event["body"]["days"] * DAY
    return Reaction(Case(event["account_id"]), due=due)


def on_due(case: Case, due: datetime) -> Reaction[Case]:
    after = replace(case, reminders=case.reminders + 1)
    return Reaction(after, [Send("case", case.id, Remind(after.reminders))], due + DAY)


def process(**changes: Any) -> Process[Any]:
    about = {"initial": Case, "react": react, "on_due": on_due, "kinds": ["Opened", "Closed"]}
    return Process(changes.pop("name", "reminders"), **{**about, **changes})


REMINDERS = process()


def test_what_it_sends_and_until_when_it_waits() -> None:
    case = f"{1:026d}"
    waiting = reacted(REMINDERS, OPENED).sends().due(FIRST + 2 * DAY).state(Case(case))
    again = waiting.when_due().sends(Send("case", case, Remind(1))).due(FIRST + 3 * DAY)
    again.when_due().sends(Send("case", case, Remind(2))).state(Case(case, 2))
    reacted(REMINDERS, OPENED, CLOSED).sends(Send("case", case, Remind(0))).due(None)
    reacted(REMINDERS, Decision("Other", {})).sends().state(Case())


def test_what_differs_is_told() -> None:
    with pytest.raises(AssertionError, match="reminders sends"):
        reacted(REMINDERS, OPENED).when_due().sends()
    with pytest.raises(AssertionError, match="reminders is due"):
        reacted(REMINDERS, OPENED).due(None)
    with pytest.raises(AssertionError, match="reminders: state"):
        reacted(REMINDERS, OPENED).state(Case())
    with pytest.raises(AssertionError, match="no deadline"):
        reacted(REMINDERS, OPENED, CLOSED).when_due()


def test_a_time_without_a_zone_is_one_in_utc_to_a_check_alone() -> None:
    reacted(REMINDERS, OPENED).due((FIRST + 2 * DAY).replace(tzinfo=None))
    naive = process(react=lambda case, event: Reaction(case, due=datetime(2025, 1, 1)))
    with pytest.raises(ValueError, match="no time zone"):
        reacted(naive, OPENED)


def test_a_deadline_is_kept_in_whole_milliseconds_and_never_early() -> None:
    due = FIRST + timedelta(microseconds=1)
    late = process(react=lambda case, event: Reaction(case, due=due))
    reacted(late, OPENED).due(FIRST + timedelta(milliseconds=1))


def test_a_deadline_that_would_come_at_once_again_is_an_error() -> None:
    forever = process(on_due=lambda case, due: Reaction(case, due=due))
    with pytest.raises(ValueError, match="must be later"):
        reacted(forever, OPENED).when_due()
    with pytest.raises(ValueError, match="no on_due"):
        reacted(process(on_due=None), OPENED)


def test_what_can_not_be_kept_or_executed_once_is_told() -> None:
    with pytest.raises(AssertionError, match="can't be kept"):
        reacted(process(react=lambda case, event: Reaction(Case(DAY))), OPENED)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="keeps another state"):
        reacted(process(react=lambda case, event: Reaction(Case((1,)))), OPENED)  # type: ignore[arg-type]
    sent = [Send("case", "1", object())]
    with pytest.raises(AssertionError, match="no fixed form"):
        reacted(process(react=lambda case, event: Reaction(case, sent)), OPENED)


def test_what_depends_on_how_the_event_came_is_told() -> None:
    odd = process(react=lambda case, event: Reaction(Case(str(event["created_at"]))))
    with pytest.raises(AssertionError, match="from the stream"):
        reacted(odd, OPENED)


def test_an_application_has_each_process_once() -> None:
    places = Projection("places", lambda _, __: {}, {})
    Application("cases", projections=[places], processes=[REMINDERS])
    with pytest.raises(ValueError, match="two of the name reminders"):
        Application("cases", projections=[places], processes=[REMINDERS, process()])
    with pytest.raises(ValueError, match="need a projection"):
        Application("cases", processes=[REMINDERS])
    with pytest.raises(InvalidName):
        process(name="Not a name")
