"""When events passed each stage from the request to the reader, and how long each stage took.

    received   its request came, by the time in a correlation id that the service made
    decided    its command was decided: its `created_at`
    forwarded  JetStream stored its message
    delivered  the worker that owns its partition began to apply it
    written    its document was written, and can be read by id
    visible    this process learned that: requests that wait for the document are answered

MongoDB keeps no time at which an event was stored: that is between decided and forwarded. Each time
is of the clock of the machine on which it was taken.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import orjson

from pipeline.messaging import JetStream, StoredMessage
from pipeline.messaging.stream_reader import BATCH, read
from pipeline.model.events import misplaced
from pipeline.operations.trace.log_position import Logged
from pipeline.operations.trace.search import made_at
from pipeline.operations.trace.written import WrittenBatches
from pipeline.support.logs import moment

MINUTES: Final = 5
WHOLE: Final = "whole"
"""The stage that stands for all of them, from received to visible."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds since 1970; None: not known, or not yet."""

    received: float | None = None
    decided: float | None = None
    forwarded: float | None = None
    delivered: float | None = None
    written: float | None = None
    visible: float | None = None


STAGES: Final = tuple(StageTimes.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Stage:
    """`at`: RFC 3339. `milliseconds`: since the last stage before it whose time is known; negative
    where clocks differ. None: not known."""

    stage: str
    at: str | None
    milliseconds: float | None


@dataclass(frozen=True, slots=True)
class StageFigures:
    """Milliseconds of a stage, since the one before it: of so many events, half took `p50` at most,
    and 99 of a hundred `p99`."""

    stage: str
    events: int
    p50: float | None
    p99: float | None


def stage_times(
    event: Mapping[str, Any], message: Logged | None, batches: WrittenBatches
) -> StageTimes:
    """Of an event as it is stored or as it is in the stream; None: its message is not known."""
    given = event.get("correlation_id")
    made = made_at(given) if isinstance(given, str) else None
    times = StageTimes(made.timestamp() if made else None, _seconds(event.get("created_at")))
    if message is None:
        return times
    times = replace(times, forwarded=_seconds(message.at))
    if message.partition is None:
        return times
    seen = batches.of(message.partition, message.sequence, times.forwarded or 0.0)
    if seen is None:
        return times
    delivered, written = seen.batch.delivered, seen.batch.written
    return replace(times, delivered=delivered, written=written, visible=seen.seen)


def unless_parked(times: StageTimes, version: int | None, parked_at: int | None) -> StageTimes:
    """The times of an event of that version. From the version on at which its account is parked,
    batches are written without the account's events."""
    if parked_at is None or version is None or version < parked_at:
        return times
    return replace(times, written=None, visible=None)


def stages(times: StageTimes) -> list[dict[str, Any]]:
    """The stages in order, each a `Stage` as JSON."""
    found: list[dict[str, Any]] = []
    before: float | None = None
    for name, at in zip(STAGES, astuple(times), strict=True):
        took = None if at is None or before is None else round(1000 * (at - before), 1)
        found.append(asdict(Stage(name, None if at is None else moment(at), took)))
        before = before if at is None else at
    return found


def figures(of: Iterable[StageTimes]) -> list[StageFigures]:
    """The figures of each stage, and of the whole; those of stages without a time are None."""
    every = [astuple(each) for each in of]
    steps = [*pairwise(range(len(STAGES))), (0, len(STAGES) - 1)]
    return [
        _figures(name, [(each[start], each[end]) for each in every])
        for name, (start, end) in zip([*STAGES[1:], WHOLE], steps, strict=True)
    ]


async def recent(js: JetStream, batches: WrittenBatches) -> list[StageTimes]:
    """The times of the last events of the log: of five minutes, and a thousand at most."""
    state = await js.state(js.names.log)
    if state is None or not state.last:
        return []
    begin = max(state.first, state.last - BATCH + 1)
    query = {"seq": begin, "next_by_subj": f"{js.names.log}.*", "batch": BATCH}
    since = time.time() - 60 * MINUTES
    found = [_times(each, batches) for each in await read(js, js.names.log, query)]
    return [each for each in found if each is not None and (each.forwarded or 0) > since]


def _times(message: StoredMessage, batches: WrittenBatches) -> StageTimes | None:
    """None for what is no event, such as a marker."""
    try:
        event: Any = orjson.loads(message.data)
    except ValueError:
        return None
    if not isinstance(event, dict) or misplaced(event) is not None:
        return None
    at = message.headers.get("Nats-Time-Stamp")
    return stage_times(event, Logged(message.subject, message.sequence, str(at)), batches)


def _figures(name: str, times: Sequence[tuple[float | None, float | None]]) -> StageFigures:
    took = sorted(
        max(0.0, 1000 * (end - start))
        for start, end in times
        if start is not None and end is not None
    )
    return StageFigures(name, len(took), _quantile(took, 0.5), _quantile(took, 0.99))


def _quantile(ordered: Sequence[float], part: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 1)


def _seconds(at: object) -> float | None:
    """A `datetime`, naive in UTC as in MongoDB, or an RFC 3339 text, as seconds since 1970."""
    try:
        time = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
