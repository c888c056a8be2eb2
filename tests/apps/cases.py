"""An application with a process: a desk is told of each case, and reminded of it until it is
closed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from pipeline.application import Application
from pipeline.model.aggregate import Aggregate, Decision, Refused
from pipeline.model.events import Event, time_of
from pipeline.model.process import Process, Reaction, Send
from pipeline.model.projection import Projection

DESK: Final = "desk"
"""The id of the only desk."""


@dataclass(frozen=True)
class Open:
    """`after`: milliseconds to the first reminder, and between reminders."""

    after: int
    reminders: int = 1


@dataclass(frozen=True)
class Touch:
    pass


@dataclass(frozen=True)
class Close:
    pass


@dataclass(frozen=True)
class Remind:
    number: int
    due: str


@dataclass(frozen=True)
class Report:
    case: str
    what: str


class Closed(Refused):
    """Nobody is reminded of a closed case."""


@dataclass(frozen=True)
class Case:
    closed: bool = False


@dataclass(frozen=True)
class Desk:
    reports: int = 0


def decide(command: Open | Touch | Close | Remind, case: Case) -> Sequence[Decision]:
    if case.closed:
        raise Closed
    match command:
        case Open(after, reminders):
            return [Decision("CaseOpened", {"after": after, "reminders": reminders})]
        case Touch():
            return [Decision("CaseTouched", {})]
        case Remind(number, due):
            return [Decision("CaseReminded", {"number": number, "due": due})]
    return [Decision("CaseClosed", {})]


def evolve(case: Case, event: Event) -> Case:
    return Case(event["kind"] == "CaseClosed")


def report(command: Report, desk: Desk) -> Sequence[Decision]:
    return [Decision("CaseReported", {"case": command.case, "what": command.what})]


CASE: Final = Aggregate(
    "case",
    initial=Case,
    decide=decide,
    evolve=evolve,
    kinds=("CaseOpened", "CaseTouched", "CaseReminded", "CaseClosed"),
)
DESK_OF_CASES: Final = Aggregate(
    "desk",
    initial=Desk,
    decide=report,
    evolve=lambda desk, event: Desk(desk.reports + 1),
    kinds=("CaseReported",),
)


@dataclass(frozen=True)
class Watched:
    id: str = ""
    after: int = 0
    left: int = 0
    reminded: int = 0
    touched: int = 0


def react(case: Watched, event: Event) -> Reaction[Watched]:
    """A touch puts the next reminder off, and is reported with its number."""
    body, wait = event["body"], timedelta(milliseconds=event["body"].get("after", case.after))
    match event["kind"]:
        case "CaseOpened":
            after = Watched(event["account_id"], body["after"], body["reminders"])
        case "CaseTouched":
            after = replace(case, touched=case.touched + 1)
        case _:
            return Reaction(replace(case, left=0), [_report(case.id, "closed")])
    due = time_of(event) + wait if after.left else None
    return Reaction(after, [_report(after.id, f"touched {after.touched}")], due)


def on_due(case: Watched, due: datetime) -> Reaction[Watched]:
    number = case.reminded + 1
    after = replace(case, reminded=number, left=case.left - 1)
    commands = [
        Send("case", case.id, Remind(number, due.isoformat())),
        _report(case.id, f"reminded {number}"),
    ]
    following = due + timedelta(milliseconds=case.after) if after.left else None
    return Reaction(after, commands, following)


def _report(case: str, what: str) -> Send:
    return Send("desk", DESK, Report(case, what))


REMINDERS: Final = Process(
    "reminders",
    initial=Watched,
    react=react,
    on_due=on_due,
    kinds=("CaseOpened", "CaseTouched", "CaseClosed"),
)
EVENTS: Final = Projection(
    "cases", lambda document, event: {"kind": event["kind"]}, {"kind": {"type": "keyword"}}
)
CASES: Final = Application(
    "cases", aggregates=[CASE, DESK_OF_CASES], projections=[EVENTS], processes=[REMINDERS]
)
