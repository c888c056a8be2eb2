"""The paths of a command's events as JSON. What is unknown is null, with the reason beside it."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pipeline.operations.status.probe import Unknown
from pipeline.operations.trace.path import EventPath, ProjectionPosition
from pipeline.operations.trace.search import FoundEvents, made_at, transfer_of
from pipeline.support.logs import moment


def as_json(correlation_id: str, found: FoundEvents, paths: Sequence[EventPath]) -> dict[str, Any]:
    """What `bank trace --json` prints; times are RFC 3339."""
    made = made_at(correlation_id)
    return {
        "correlation_id": correlation_id,
        "made_at": rfc3339(made) if made else None,
        "searched": list(map(rfc3339, found.searched)) if found.searched else None,
        "complete": found.complete,
        "events": [_path(each) for each in paths],
    }


def rfc3339(at: datetime) -> str:
    """A time with a timezone, to the millisecond."""
    return moment(at.timestamp())


def _path(path: EventPath) -> dict[str, Any]:
    event = path.event
    stored = rfc3339(path.stored) if isinstance(path.stored, datetime) else path.stored
    message = path.logged if isinstance(path.logged, Unknown) else asdict(path.logged)
    return {
        "event_id": event["_id"],
        "account_id": event.get("account_id"),
        "version": event.get("version"),
        "kind": event.get("kind"),
        "transfer": transfer_of(event),
        "causation_id": event.get("causation_id"),
        **_or_why("stored_at", stored),
        **_or_why("stream", message),
        "projections": [_projected(each) for each in path.projected],
    }


def _projected(at: ProjectionPosition) -> dict[str, Any]:
    parked = at.parked if isinstance(at.parked, Unknown | None) else asdict(at.parked)
    return {
        "projection": at.projection,
        "left_out": at.left_out,
        "index": at.index,
        **_or_why("position", at.position),
        **_or_why("passed", at.passed),
        **_or_why("document_version", at.version),
        **_or_why("parked", parked),
    }


def _or_why(name: str, answer: object) -> dict[str, object]:
    if isinstance(answer, Unknown):
        return {name: None, f"{name}_unknown": answer.why}
    return {name: answer}
