"""How far a partition is behind the event store, in events and in seconds.

The lag has two parts: events that are not in the stream yet, and events in the stream that are not
in the index yet. Each is counted exactly, or is unknown with a reason: it is never guessed as 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from pipeline.agents.source import is_marker
from pipeline.eventstore import ChangeBacklog
from pipeline.messaging import (
    BATCH_HEADER,
    TOKEN_HEADER,
    JetStream,
    StoredMessage,
    StreamState,
)
from pipeline.messaging.event_messages import valid_slot
from pipeline.messaging.stream_reader import read
from pipeline.model.events import partition_of
from pipeline.operations.status.probe import Unknown, joined, why

SHORTEST: Final = 0.001
"""The least seconds of lag while an event waits. By another machine's clock its time may be in the
future."""
TO_BACKFILL: Final = "to be backfilled from the event store"


@dataclass(frozen=True, slots=True)
class WaitingEvents:
    """How many events wait, with `more` at least so many, and the time of the oldest."""

    events: int = 0
    oldest: datetime | None = None
    more: bool = False

    def __add__(self, other: "WaitingEvents") -> "WaitingEvents":
        oldest = [each for each in (self.oldest, other.oldest) if each is not None]
        return WaitingEvents(
            self.events + other.events, min(oldest, default=None), self.more or other.more
        )


@dataclass(frozen=True, slots=True)
class Lag:
    """A field is None if it is not known; `unknown` says why."""

    events: int | None
    seconds: float | None
    unknown: str | None


def total_waiting(parts: Iterable[WaitingEvents | Unknown]) -> WaitingEvents | Unknown:
    """What waits in all of them; unknown if one is."""
    every = list(parts)
    if reasons := joined(*map(why, every)):
        return Unknown(reasons)
    return sum((each for each in every if isinstance(each, WaitingEvents)), WaitingEvents())


def lag(
    unforwarded: WaitingEvents | Unknown, unapplied: WaitingEvents | Unknown, now: datetime
) -> Lag:
    """The lag of a partition; 0 seconds only if nothing waits."""
    waiting = total_waiting([unforwarded, unapplied])
    if isinstance(waiting, Unknown):
        return Lag(None, None, waiting.why)
    seconds = None if waiting.more else 0.0
    if waiting.oldest is not None:
        seconds = max(SHORTEST, (now - waiting.oldest).total_seconds())
    if waiting.more:
        return Lag(None, seconds, f"at least {waiting.events:,}")
    return Lag(waiting.events, seconds, None)


# ---------------------------------------------------------------- from the store to the stream


def resume_token(last: StoredMessage | None, state: StreamState) -> str | Unknown:
    """The resume token in the last message, where forwarding goes on. `state` was read before
    it."""
    if last is None:
        return Unknown(f"{TO_BACKFILL}: the stream is empty")
    if last.sequence == state.last and TOKEN_HEADER not in last.headers and _is_part(last):
        return Unknown("a batch landed in part: JetStream has no room for the rest")
    if last.sequence < state.last or TOKEN_HEADER not in last.headers:
        return Unknown(f"{TO_BACKFILL}: the stream does not end with a message of a forwarder")
    return last.headers[TOKEN_HEADER]


def _is_part(last: StoredMessage) -> bool:
    return BATCH_HEADER in last.headers and b'"_id"' in last.data


def unforwarded(backlog: ChangeBacklog, partitions: int) -> list[WaitingEvents]:
    """The events that were stored after the end of the stream, by partition."""
    times: list[list[datetime]] = [[] for _ in range(partitions)]
    for event in backlog.events:
        try:
            slot = valid_slot(event)
        except (KeyError, TypeError, ValueError):  # an invalid event: it is never forwarded
            continue
        times[partition_of(slot, partitions)].append(event["created_at"].replace(tzinfo=UTC))
    return [
        WaitingEvents(len(each), min(each, default=None), more=not backlog.complete)
        for each in times
    ]


# ---------------------------------------------------------------- from the stream to the index


async def unapplied(js: JetStream, partition: int, position: int) -> WaitingEvents | Unknown:
    """The events of the partition after the position, counted in one request.

    The answer has the first message and, in a header, the number of those after it.
    """
    # A direct get also tells how many messages of the subject follow; a consumer would have to be
    # created for that, and would count new messages a moment late.
    query = {"seq": position + 1, "next_by_subj": js.names.subject(partition), "batch": 1}
    found = await read(js, js.names.log, query)
    if not found:
        return WaitingEvents()
    data, headers = found[0].data, found[0].headers
    if is_marker(data):
        return Unknown(f"{TO_BACKFILL}: a forwarder asks for it")
    oldest = _stored_at(data, headers["Nats-Time-Stamp"])
    return WaitingEvents(1 + int(headers["Nats-Num-Pending"]), oldest)


def _stored_at(data: bytes, published: str) -> datetime:
    """The event's `created_at`, or its publishing time if the message is no event of ours."""
    try:
        return _time(orjson.loads(data)["created_at"])
    except (ValueError, KeyError, TypeError):
        return _time(published)


def _time(text: Any) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
