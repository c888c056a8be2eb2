"""The timeline: what happened to the pipeline, kept for all balance services and those after them.

A JetStream stream with a subject for each kind of happening and a JSON object for each line. Its
limits are for each kind, so a flood of one displaces no other. Each balance service writes what it
has seen itself; what several have seen is one happening to who reads (`merged`).
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

import orjson
from pydantic import TypeAdapter, ValidationError

from pipeline.messaging import JetStream, stream_reader
from pipeline.messaging.streams import ensure_by_subject
from pipeline.operations.status.happenings import Change, Happening
from pipeline.support.logs import moment

OF_EACH_KIND: Final = 500
_DAYS: Final = 30
_SAME_SECONDS: Final = 30.0
"""What two services say within this time is the same: one that nobody asks reads every ten seconds,
and takes a server to be down after a second look."""
_LONGEST: Final = 16_384
"""Bytes of a line."""


@dataclass(frozen=True, slots=True)
class Line:
    """A change as the process `by` saw it; `id` is the line's own."""

    id: str
    by: str
    change: Change


_LINE: Final = TypeAdapter(Line)


async def ensure(js: JetStream) -> None:
    """Create the stream, or give it its limits."""
    await ensure_by_subject(
        js, js.names.happenings, max_msgs_per_subject=OF_EACH_KIND, max_age_hours=24 * _DAYS
    )


async def write(js: JetStream, line: Line) -> int:
    """Store a line, once however often it is sent within two minutes; return its sequence. Raises
    `answers.FAILURES`."""
    subject = f"{js.names.happenings}.{line.change.happening.kind}"
    return await js.publish(subject, orjson.dumps(asdict(line)), {"Nats-Msg-Id": line.id})


async def read(js: JetStream, after: int = 0) -> AsyncIterator[tuple[int, Line]]:
    """The lines after that sequence, each with its own, in the order in which they were stored.
    What is no line is skipped. Raises `answers.FAILURES`."""
    async for found in stream_reader.messages(js, js.names.happenings, {"seq": after + 1}):
        for message in found:
            if (line := _line(message.data)) is not None:
                yield message.sequence, line


def ordered(lines: Iterable[Line]) -> list[Line]:
    """The lines in the order of their times."""
    return sorted(lines, key=lambda each: each.change.happening.at)


def merged(lines: Iterable[Line]) -> list[Happening]:
    """What happened, the oldest first: what two have seen once, and nothing that was there at the
    first look of one and was told before."""
    found: list[Happening] = []
    told: dict[tuple[str, str, str], Line] = {}
    last: dict[tuple[str, str], str] = {}
    for line in ordered(lines):
        now = line.change.happening
        before, of = told.get((now.kind, now.about, now.what)), (now.kind, now.about)
        if before is not None and before.by != line.by and _near(before, line):
            continue
        if line.change.first and last.get(of) == now.what:
            continue
        told[now.kind, now.about, now.what], last[of] = line, now.what
        found.append(now)
    return found


def _near(one: Line, other: Line) -> bool:
    return _seconds(other) - _seconds(one) <= _SAME_SECONDS


def _seconds(line: Line) -> float:
    return datetime.fromisoformat(line.change.happening.at).timestamp()


def _line(data: bytes) -> Line | None:
    """The line in a message; None if it is none: anybody with access may have published it."""
    if len(data) > _LONGEST:
        return None
    try:
        line = _LINE.validate_json(data)
        sound = moment(_seconds(line)) == line.change.happening.at
    except (ValidationError, ValueError, OverflowError):
        return None
    return line if sound else None
