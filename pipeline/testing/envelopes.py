"""Events for tests: with an envelope as the engine makes it, but always the same ids and times."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import orjson

from pipeline.model.aggregate import Decision
from pipeline.model.chain import NOTHING, hash_of, link
from pipeline.model.events import Event, new_event

Before: TypeAlias = Decision | Event
"""What has happened: a decision, which gets an envelope, or an event, which has one."""

_BEGAN: Final = datetime(2025, 1, 1)
_CORRELATION_ID: Final = f"{0:026d}"


def history(
    before: Iterable[Before], schema_of: Callable[[str], int | None], number: int = 1
) -> list[Event]:
    """The events of one aggregate; its `number` tells it from others of the same test.

    `schema_of`: the schema in which events of a kind are made, None for the newest declared one.
    Raises `AssertionError` for a decision that can't be stored.
    """
    events: list[Event] = []
    for each in before:
        events.append(
            _following(events, each, schema_of(each.kind), number)
            if isinstance(each, Decision)
            else each
        )
    return events


def id_of(events: Sequence[Event], number: int = 1) -> str:
    """The aggregate's id: that of its events, if there are any."""
    return events[-1]["account_id"] if events else f"{number:026d}"


def _following(
    events: Sequence[Event], decision: Decision, schema: int | None, number: int
) -> Event:
    """The next event, a second later than the one before it."""
    version = events[-1]["version"] + 1 if events else 1
    event = new_event(
        id_of(events, number),
        version,
        decision.kind,
        _plain(decision),
        correlation_id=_CORRELATION_ID,
        schema=schema,
    )
    event["_id"] = f"{number:013d}{version:013d}"
    event["created_at"] = _BEGAN + timedelta(seconds=version)
    link(event, hash_of(events[-1]) if events else NOTHING)
    return event


def _plain(decision: Decision) -> Mapping[str, Any]:
    """The body, which must come back from JSON as it is."""
    try:
        body: dict[str, Any] = orjson.loads(orjson.dumps(decision.body))
    except TypeError as error:
        raise AssertionError(f"{decision.kind} can't be stored: {error}") from error
    if body != decision.body:
        raise AssertionError(
            f"{decision.kind} can't be stored: a body has texts, numbers, lists and objects; "
            f"JSON makes {body} of {decision.body}"
        )
    return body
