"""Prints the paths of a command's events."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from pipeline.cli.formatting import console, plain_table
from pipeline.operations.status.probe import Unknown
from pipeline.operations.trace.path import EventPath, ProjectionPosition
from pipeline.operations.trace.report import rfc3339
from pipeline.operations.trace.search import FoundEvents, made_at, transfer_of

Row = tuple[str, str, str, str]
"""A step, its time, the milliseconds since the step before, and a description."""

_UNRECORDED: Final = "not recorded"


def show(correlation_id: str, found: FoundEvents, paths: Sequence[EventPath]) -> None:
    """Print the paths in the order of the events' ids."""
    out, made = console(), made_at(correlation_id)
    if found.events:
        number = len(found.events)
        out.print(f"{correlation_id}: {number} event{'s' if number > 1 else ''}", markup=False)
    for path in paths:
        out.print()
        out.print(_title(path), markup=False, highlight=False)
        table = plain_table("", "time", "after", "where")
        for row in _rows(path, made):
            table.add_row(*row)
        out.print(table)


def _title(path: EventPath) -> str:
    event = path.event
    version, account_id = event.get("version"), event.get("account_id")
    title = f"{event.get('kind')}, version {version} of account {account_id}"
    if transfer := transfer_of(event):
        title += f"\ntransfer {transfer['id']} with account {transfer['counterparty']}"
    title += f"\nevent {event['_id']}"
    if caused := event.get("causation_id"):
        title += f", caused by event {caused}"
    return title


def _rows(path: EventPath, made: datetime | None) -> Iterator[Row]:
    before = made
    if made is not None:
        yield "asked", rfc3339(made), "", "by the correlation id's own time"
    if isinstance(path.stored, Unknown):
        yield "stored", f"unknown: {path.stored.why}", "", "in the event store"
    else:
        yield "stored", rfc3339(path.stored), _after(before, path.stored), "in the event store"
        before = path.stored
    if isinstance(path.logged, Unknown):
        yield "forwarded", "unknown", "", path.logged.why
    else:
        at = datetime.fromisoformat(path.logged.at)
        where = f"{path.logged.subject}, sequence {path.logged.sequence}"
        yield "forwarded", rfc3339(at), _after(before, at), where
    for each in path.projected:
        yield each.projection, _UNRECORDED, "", "; ".join(_description(each, path.event["version"]))


def _after(before: datetime | None, at: datetime) -> str:
    return f"{1000 * (at - before).total_seconds():+,.0f} ms" if before else ""


def _description(at: ProjectionPosition, version: int) -> Iterator[str]:
    if at.left_out:
        yield "left out: the projection is not about such events"
    else:
        yield from _progress(at, version)
    if isinstance(at.parked, Unknown):
        yield f"parked or not is unknown: {at.parked.why}"
    elif at.parked is not None:
        yield f"PARKED at version {at.parked.version} since {at.parked.since}: {at.parked.reason}"


def _progress(at: ProjectionPosition, version: int) -> Iterator[str]:
    if isinstance(at.position, Unknown):
        yield f"position unknown: {at.position.why}"
    elif isinstance(at.passed, Unknown):
        yield f"all up to {at.position} is in {at.index}"
    else:
        passed = "passed" if at.passed else "not passed yet"
        yield f"{passed}: all up to {at.position} is in {at.index}"
    if isinstance(at.version, Unknown):
        yield f"document unknown: {at.version.why}"
    elif at.version is None:
        yield "there is no document"
    else:
        old = "" if at.version >= version else ", which is older"
        yield f"the document is at version {at.version}{old}"
