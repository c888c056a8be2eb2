"""Finds the message of an event in the stream, by the event's time and id.

It reads messages in batches from that time on, by direct get: that creates no consumer.
"""

import time
from dataclasses import dataclass
from datetime import datetime

import orjson

from pipeline.coordination.partitioning import Partitioning
from pipeline.messaging import JetStream, StoredMessage
from pipeline.messaging.stream_reader import BATCH, read
from pipeline.model.events import Event, partition_of
from pipeline.operations.trace.search import CLOCKS


class StillSearching(Exception):
    """There are more messages from that time on than could be read in time."""


@dataclass(frozen=True, slots=True)
class Logged:
    """The message of an event; `at`: the RFC 3339 time at which the server stored it."""

    subject: str
    sequence: int
    at: str

    @property
    def partition(self) -> int | None:
        """The partition; None if the subject is none of a partition."""
        number = self.subject.rpartition(".")[2]
        return int(number) if number.isdecimal() else None


async def logged(
    js: JetStream, now: Partitioning, event: Event, stored: datetime, seconds: float
) -> Logged | None:
    """The message; None if the stream has none from a minute before that time on.

    Raises `StillSearching` after the seconds.
    """
    since, deadline = stored - CLOCKS, time.monotonic() + seconds
    stream = js.names.log
    anywhere = f"{stream}.*"
    wanted = {"start_time": _rfc3339(since), "next_by_subj": anywhere, "batch": 1}
    found = await read(js, stream, wanted)
    if not found:
        return None
    at = found[0].sequence
    # Before the last repartition the event's partition was another one.
    ours = js.names.subject(partition_of(event["slot"], now.count))
    where = ours if at > now.at else anywhere
    while time.monotonic() < deadline:
        messages = await read(js, stream, {"seq": at, "next_by_subj": where, "batch": BATCH})
        for message in messages:
            if _is(message, event):
                stamp = message.headers["Nats-Time-Stamp"]
                return Logged(message.subject, message.sequence, stamp)
        if not messages:
            return None
        at = messages[-1].sequence + 1
    raise StillSearching


def _is(message: StoredMessage, event: Event) -> bool:
    """Whether it is the event, by the id in its header, or in its body if it has no such header."""
    given = message.headers.get("Nats-Msg-Id")
    if given is not None:
        return bool(given == event["_id"])
    try:
        value = orjson.loads(message.data)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("_id") == event["_id"]


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
