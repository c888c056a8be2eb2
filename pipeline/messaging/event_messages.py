"""Events as messages of the stream. An invalid document is skipped, so that the bank goes on."""

import logging
from collections.abc import Iterable

from pipeline.messaging import MESSAGE_ID, OutgoingMessage
from pipeline.model.events import Event, encode, misplaced, partition_of
from pipeline.model.names import BANK, Names
from pipeline.support.correlation import about
from pipeline.support.retry import brief

log = logging.getLogger(__name__)


def event_messages(
    events: Iterable[Event], partitions: int, room: int, names: Names = BANK
) -> tuple[list[OutgoingMessage], int]:
    """The messages of the events, in order, each of at most `room` bytes; how many were skipped.

    People can write anything into the collection. A document that can't be read as an event, or
    that belongs to no account, is skipped and logged with its `_id`: no account depends on it.
    """
    messages: list[OutgoingMessage] = []
    skipped = 0
    for event in events:
        try:
            messages.append(_message(event, partitions, room, names))
        except (KeyError, TypeError, ValueError) as error:
            skipped += 1
            line = "Skipped what is no event, _id %r: %s"
            log.error(line, event.get("_id"), brief(error), extra=about([event]))
    return messages, skipped


def valid_slot(event: Event) -> int:
    """The slot whose partition the event goes to. Raises for what `event_messages` skips:
    `KeyError`, `TypeError` or `ValueError`."""
    event_id = event["_id"]
    if not isinstance(event_id, str) or not (event_id.isascii() and event_id.isprintable()):
        raise ValueError("the id is not plain text")
    if why := misplaced(event):
        raise ValueError(why)
    return int(event["slot"])


def _message(event: Event, partitions: int, room: int, names: Names) -> OutgoingMessage:
    slot, data = valid_slot(event), encode(event)
    if len(data) > room:
        raise ValueError(f"{len(data)} bytes are more than a message may have")
    subject = names.subject(partition_of(slot, partitions))
    return OutgoingMessage(subject, data, {MESSAGE_ID: event["_id"]})
