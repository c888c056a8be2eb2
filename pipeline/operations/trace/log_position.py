"""Finds the message of an event in the stream, by the event's time and id.

It reads messages in batches from that time on, by direct get: that creates no consumer.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from pipeline.coordination.partitioning import Partitioning
from pipeline.messaging import STREAM, JetStream, JetStreamError, subject
from pipeline.model.events import Event, partition_of
from pipeline.operations.trace.search import CLOCKS

_BATCH: Final = 1000
_TIMEOUT: Final = 5.0
_NO_MESSAGE: Final = "404"
_ANY: Final = f"{STREAM}.*"


class StillSearching(Exception):
    """There are more messages from that time on than could be read in time."""


@dataclass(frozen=True, slots=True)
class Logged:
    """The message of an event; `at`: the RFC 3339 time at which the server stored it."""

    subject: str
    sequence: int
    at: str


async def logged(
    js: JetStream, now: Partitioning, event: Event, stored: datetime, seconds: float
) -> Logged | None:
    """The message; None if the stream has none from a minute before that time on.

    Raises `StillSearching` after the seconds.
    """
    since, deadline = stored - CLOCKS, time.monotonic() + seconds
    async with _inbox(js) as ask:
        wanted: dict[str, Any] = {"start_time": _rfc3339(since), "next_by_subj": _ANY, "batch": 1}
        found = await ask(wanted)
        if not found:
            return None
        [first] = found
        # Before the last repartition the event was in another partition.
        ours = subject(partition_of(event["slot"], now.count))
        at, where = _sequence(first), ours if _sequence(first) > now.at else _ANY
        while time.monotonic() < deadline:
            messages = await ask({"seq": at, "next_by_subj": where, "batch": _BATCH})
            for message in messages:
                if _is(message, event):
                    return _logged(message)
            if not messages:
                return None
            at = _sequence(messages[-1]) + 1
        raise StillSearching


@asynccontextmanager
async def _inbox(js: JetStream) -> AsyncIterator[Callable[[dict[str, Any]], Awaitable[list[Msg]]]]:
    inbox = js.nc.new_inbox()
    replies = await js.nc.subscribe(inbox)

    async def ask(query: dict[str, Any]) -> list[Msg]:
        """The messages, in order; none beyond the stream's end."""
        api = f"$JS.API.DIRECT.GET.{STREAM}"
        await js.nc.publish(api, orjson.dumps(query), reply=inbox)
        return [message async for message in _until_end(replies)]

    try:
        yield ask
    finally:
        await replies.unsubscribe()


async def _until_end(replies: Subscription) -> AsyncIterator[Msg]:
    while True:
        message = await replies.next_msg(_TIMEOUT)
        headers = message.headers or {}
        if headers.get("Status") == _NO_MESSAGE:
            return
        if "Nats-Sequence" in headers:
            yield message
        elif headers.get("Status") == "204":
            return
        else:
            raise JetStreamError(int(headers.get("Status", 503)), "the stream does not answer")


def _is(message: Msg, event: Event) -> bool:
    """Whether it is the event, by the id in its header, or in its body if it has no such header."""
    given = (message.headers or {}).get("Nats-Msg-Id")
    if given is not None:
        return bool(given == event["_id"])
    try:
        value = orjson.loads(message.data)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("_id") == event["_id"]


def _logged(message: Msg) -> Logged:
    headers = message.headers or {}
    return Logged(headers["Nats-Subject"], _sequence(message), headers["Nats-Time-Stamp"])


def _sequence(message: Msg) -> int:
    return int((message.headers or {})["Nats-Sequence"])


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
