"""The path of one event: stored, forwarded, applied to each projection; or why that is unknown.

All servers are probed at the same time, each once. What they do not say is never guessed.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from pipeline.coordination.partitioning import Partitioning
from pipeline.eventstore import HistoryLost
from pipeline.messaging.event_messages import valid_slot
from pipeline.model.events import Event, partition_of
from pipeline.operations.status.effective_position import effective_position
from pipeline.operations.status.probe import Unknown, failed, probe
from pipeline.operations.status.reader import NO_STREAM, LogEnd, StatusReader
from pipeline.operations.trace.log_position import Logged, StillSearching, logged
from pipeline.search import FoundDocument, GenerationGone
from pipeline.support.retry import brief
from pipeline.tables.parked_accounts import ParkedAccount

SECONDS: Final = 8.0
"""Seconds in which the servers must have answered."""
_END_SECONDS: Final = 3.0
_SEARCHING_SECONDS: Final = 4.0

_NO_TIME: Final = Unknown("its created_at is no time")
_WAITS: Final = Unknown("not forwarded yet: it waits for a forwarder")
_GONE: Final = Unknown(
    "not in the stream: workers read it from the event store (a resync), or it has left the stream"
)
_LATE: Final = Unknown("too many messages were stored after it to read them all")
_MANY: Final = Unknown("not in the stream yet, or no more: too many events wait to be forwarded")
_NO_INDEX: Final = Unknown("there is no live index")


@dataclass(frozen=True, slots=True)
class ProjectionPosition:
    """How far a projection is. All events up to `position` are in the live `index`; `passed`:
    the event is one of them. `version` is the document's, None: there is no document. `left_out`:
    the projection is not about the event, and has nothing of it."""

    projection: str
    left_out: bool
    position: int | Unknown
    passed: bool | Unknown
    index: str | None
    version: int | Unknown | None
    parked: ParkedAccount | Unknown | None

    @property
    def answers(self) -> tuple[object, ...]:
        return self.position, self.passed, self.version, self.parked


@dataclass(frozen=True, slots=True)
class EventPath:
    """`stored` is the event's `created_at`, by the clock of the service that decided it."""

    event: Event
    stored: datetime | Unknown
    logged: Logged | Unknown
    projected: Sequence[ProjectionPosition]

    @property
    def failed(self) -> dict[str, str]:
        """See `probe.failed`."""
        return failed([self.logged, *(a for each in self.projected for a in each.answers)])


async def trace_path(event: Event, readers: Sequence[StatusReader]) -> EventPath:
    """Where the event is now. `readers`: one for each projection of the bank."""
    began = asyncio.get_running_loop().time()
    until = began + SECONDS
    at: object = event.get("created_at")
    stored = at.replace(tzinfo=UTC) if isinstance(at, datetime) else _NO_TIME
    try:
        valid_slot(event)
    except (KeyError, TypeError, ValueError) as error:
        return EventPath(event, stored, Unknown(f"never: it is no valid event: {brief(error)}"), ())
    end = await probe("NATS", readers[0].log_end, began + _END_SECONDS)
    found = await _logged(event, stored, end, readers[0], until)
    projected = await asyncio.gather(
        *(_projected(event, found, end, each, until) for each in readers)
    )
    return EventPath(event, stored, found, projected)


async def _logged(
    event: Event,
    stored: datetime | Unknown,
    end: LogEnd | Unknown,
    reader: StatusReader,
    until: float,
) -> Logged | Unknown:
    now = _partitioning(end)
    if isinstance(now, Unknown) or isinstance(stored, Unknown):
        return now if isinstance(now, Unknown) else _NO_TIME

    async def find() -> Logged | Unknown | None:
        js = await reader.jetstream()
        try:
            return await logged(js, now, event, stored, _SEARCHING_SECONDS)
        except StillSearching:
            return _LATE

    found = await probe("NATS", find, until)
    if found is not None:
        return found
    token = end.token if isinstance(end, LogEnd) else end
    if isinstance(token, Unknown):
        return token
    return await probe("MongoDB", partial(_waiting, event, token, reader), until)


async def _waiting(event: Event, token: str, reader: StatusReader) -> Unknown:
    """Why the stream has no message of the event."""
    try:
        backlog = await reader.change_backlog(token)
    except HistoryLost:
        return _MANY
    if any(each["_id"] == event["_id"] for each in backlog.events):
        return _WAITS
    return _GONE if backlog.complete else _MANY


async def _projected(
    event: Event,
    message: Logged | Unknown,
    end: LogEnd | Unknown,
    reader: StatusReader,
    until: float,
) -> ProjectionPosition:
    account_id = event["account_id"]
    (index, position), version, parked = await asyncio.gather(
        _position(event, _partitioning(end), reader, until),
        probe("Elasticsearch", partial(_version, event, reader), until),
        probe("NATS", partial(reader.parked_account, account_id), until),
    )
    passed: bool | Unknown
    if isinstance(position, Unknown):
        passed = position
    else:
        passed = message if isinstance(message, Unknown) else position >= message.sequence
    projection = reader.projection
    left_out = not [*projection.about([event])]
    return ProjectionPosition(projection.name, left_out, position, passed, index, version, parked)


async def _position(
    event: Event, now: Partitioning | Unknown, reader: StatusReader, until: float
) -> tuple[str | None, int | Unknown]:
    """The live index, and how far the event's partition is in it."""
    if isinstance(now, Unknown):
        return None, now
    found = await probe("Elasticsearch", partial(reader.checkpoints, now), until)
    stream = await probe("NATS", reader.stream, until)
    if isinstance(found, Unknown):
        return None, found
    generation, checkpoints = found
    index = generation.index if generation else None
    if isinstance(stream, Unknown):
        return index, stream
    partition = partition_of(event["slot"], now.count)
    return index, effective_position(partition, now, generation, stream.state, checkpoints)


async def _version(event: Event, reader: StatusReader) -> int | Unknown | None:
    try:
        found = await reader.document(event["account_id"], event["version"])
    except GenerationGone:
        return _NO_INDEX
    return _document_version(reader, found) if found else None


def _document_version(reader: StatusReader, found: FoundDocument) -> int | Unknown:
    if not reader.projection.sound(found.version, found.source):
        return Unknown("its document is not as a worker writes it")
    return int(found.source["version"])


def _partitioning(end: LogEnd | Unknown) -> Partitioning | Unknown:
    if isinstance(end, Unknown):
        return end
    return end.partitions or NO_STREAM
