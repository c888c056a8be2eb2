"""The timeline: what happened to the pipeline, kept for all balance services and those after them.

A JetStream stream with a subject for each kind of happening and a JSON object for each line. Its
limits are for each kind, so a flood of one displaces no other. What is known is the fold of the
lines (`Known`). A service stores what it sees only if it has read all lines before (`write`), so
each change is told once, however many services see it.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

import orjson
from pydantic import TypeAdapter, ValidationError

from pipeline.messaging import JetStream, stream_reader
from pipeline.messaging.streams import ensure_by_subject
from pipeline.operations.status.happenings import Change, valid
from pipeline.support.logs import moment

OF_EACH_KIND: Final = 500
_DAYS: Final = 30
_AGAIN_SECONDS: Final = 0.1
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


async def write(js: JetStream, line: Line, expected: int) -> int:
    """Store a line; return its sequence. `expected` is the stream's last one as the caller knows
    it: if it is another one, nothing is stored and `WrongLastSequence` is raised. Raises
    `answers.FAILURES`."""
    subject = f"{js.names.happenings}.{line.change.happening.kind}"
    headers = {"Nats-Expected-Last-Sequence": str(expected)}
    return await js.publish(subject, orjson.dumps(asdict(line)), headers)


async def read(js: JetStream, after: int, last: int) -> AsyncIterator[tuple[int, Line | None]]:
    """The messages after that sequence, at least until `last`, each as the line that it is; None
    for what is none, and for a `last` that is not there any more. Raises `answers.FAILURES`."""
    stream = js.names.happenings
    while after < last:
        async for found in stream_reader.messages(js, stream, {"seq": after + 1}):
            for message in found:
                after = message.sequence
                yield after, _line(message.data)
        if after < last:
            newest = await js.last_message(stream)
            if newest is None or newest.sequence <= after:
                yield last, None
                return
            await asyncio.sleep(_AGAIN_SECONDS)  # a replica that is behind has answered


def _line(data: bytes) -> Line | None:
    """The line in a message; None if it is none: anybody with access may have published it."""
    if len(data) > _LONGEST:
        return None
    try:
        line = _LINE.validate_json(data)
        at = line.change.happening.at
        sound = moment(datetime.fromisoformat(at).timestamp()) == at and valid(line.change)
    except (ValidationError, ValueError, OverflowError):
        return None
    return line if sound else None
