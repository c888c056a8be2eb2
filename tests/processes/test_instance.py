"""An instance of a process, pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pipeline.model.events import Event, new_event
from pipeline.processes.instance import Instance
from tests.apps.cases import REMINDERS

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def event(version: int, kind: str, minutes: int, **body: int) -> Event:
    made = new_event("case-1", version, kind, body)
    return {**made, "created_at": (START + timedelta(minutes=minutes)).replace(tzinfo=None)}


def test_a_deadline_that_was_not_answered_is_not_taken_for_answered() -> None:
    """Later events came first: no worker ran when its time came."""
    opened = event(1, "CaseOpened", 0, after=60_000, reminders=2)
    before = Instance.new(REMINDERS, "case-1")
    before = before.after(opened, before.reaction(opened))
    assert before.due is not None
    closed = event(2, "CaseClosed", 5)
    pending = replace(before, version=2)
    assert pending.refolded([opened, closed]).state.reminded == 0
    answered = replace(pending, due=None)
    assert answered.refolded([opened, closed]).state.reminded == 2
