"""Events as messages of the stream. What can't be one is skipped, so that the bank goes on."""

import logging
from collections.abc import Iterable

from pipeline.messaging import OutgoingMessage, subject
from pipeline.model.events import Event, encode, misplaced, partition_of
from pipeline.support.correlation import about
from pipeline.support.retry import brief

log = logging.getLogger(__name__)


def event_messages(
    events: Iterable[Event], partitions: int, room: int
) -> tuple[list[OutgoingMessage], int]:
    """The messages of the events, in order, each of at most `room` bytes; how many were skipped.

    People can put anything into the collection by hand. A document that could not be read as an
    event, or that belongs to no account, is logged with its `_id`; no other account needs it.
    """
    messages: list[OutgoingMessage] = []
    skipped = 0
    for event in events:
        try:
            messages.append(_message(event, partitions, room))
        except (KeyError, TypeError, ValueError) as error:
            skipped += 1
            said = "Skipped what is no event, _id %r: %s"
            log.error(said, event.get("_id"), brief(error), extra=about([event]))
    return messages, skipped


def addressed(event: Event) -> int:
    """The slot that the event goes by. Raises what `outgoing` skips: it belongs to no account."""
    event_id = event["_id"]
    if not isinstance(event_id, str) or not (event_id.isascii() and event_id.isprintable()):
        raise ValueError("the id is not plain text")
    if why := misplaced(event):
        raise ValueError(why)
    return int(event["slot"])


def _message(event: Event, partitions: int, room: int) -> OutgoingMessage:
    slot, data = addressed(event), encode(event)
    if len(data) > room:
        raise ValueError(f"{len(data)} bytes are more than a message may have")
    return OutgoingMessage(
        subject(partition_of(slot, partitions)), data, {"Nats-Msg-Id": event["_id"]}
    )
