"""Applying deliveries: which events they have, and writing those to every generation.

The partition processor calls `read_events`, then `write_events`; a marker makes it backfill in
between.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from pipeline.agents.context import OwnedPartition, ProjectionContext
from pipeline.agents.source import Delivery, is_marker
from pipeline.model.events import Event, NoEvent, event_in, partition_of
from pipeline.search import GenerationGone
from pipeline.support.correlation import about
from pipeline.support.tracing import carrying
from pipeline.tables.checkpoints import PositionLost

log = logging.getLogger(__name__)


class DeliveredEvents(NamedTuple):
    """The new events of some deliveries, in order. `messages` counts what was read for them."""

    messages: int
    events: list[Event]
    after_marker: list[Event] | None
    """None: there was no marker. Else `events` come before it, and these come after it."""


def read_events(
    context: ProjectionContext, owned: OwnedPartition, batch: Sequence[Delivery]
) -> DeliveredEvents:
    """The events beyond our position. Raises `PositionLost` when a message was not delivered."""
    events = current = list[Event]()
    after_marker: list[Event] | None = None
    position, count = owned.position, 0
    for delivery in batch:
        if delivery.previous > position:
            raise PositionLost(f"nothing was delivered between {position} and {delivery.previous}")
        decoded = delivery.read(event_in)
        for (sequence, data), found in zip(delivery.messages, decoded, strict=True):
            if sequence <= position:
                continue
            count += 1
            if is_marker(data):
                # One backfill is enough: it reads the store after all of these were published.
                if after_marker is None:
                    after_marker = current = []
            elif (event := _event(context, delivery.partition, sequence, data, found)) is not None:
                current.append(event)
        position = max(position, delivery.last)
    return DeliveredEvents(count, events, after_marker)


async def write_events(
    context: ProjectionContext, owned: OwnedPartition, events: Sequence[Event]
) -> None:
    """Bring the events' documents into every generation of the partition.

    Raises `GenerationGone` of the live one, `PositionLost` when there is none to write, and what
    the stores raise.
    Whatever it raises, it may be repeated.
    """
    if not context.projection.every:  # such a projection gets no personal fields
        events = await context.store.readable(events)
    with carrying("apply", events, "CONSUMER"):
        # The generation being built comes first: readers switch from the live one to it, and must
        # not see an account go back.
        await _write_building(owned, events)
        await _write_live(owned, events)
    if events and log.isEnabledFor(logging.DEBUG):
        indexes = ", ".join(each.index for each in owned.generations)
        log.debug("Applied %d events to %s", len(events), indexes, extra=about(events))


async def _write_building(owned: OwnedPartition, events: Sequence[Event]) -> None:
    building = owned.building
    if building is None or building.begun is None:
        return
    # Events of other slots are left to the replay: they were in the store before the stream.
    begun = [event for event in events if event["slot"] < building.begun]
    try:
        await building.table.apply(begun)
    except GenerationGone as error:
        log.warning("%s is not built any more: %s", building.generation.index, error)
        owned.building = None


async def _write_live(owned: OwnedPartition, events: Sequence[Event]) -> None:
    if not owned.live.frozen:
        await owned.live.table.apply(events)
    elif owned.building is None:
        raise PositionLost("there is no generation to write")


def _event(
    context: ProjectionContext, partition: int, sequence: int, data: bytes, found: Event | NoEvent
) -> Event | None:
    """The event in a message; None for one without an event of the partition, which is skipped.

    An event of another partition is skipped because its owner may not have come so far: applied
    here, it would overtake that account's earlier events.
    """
    if not isinstance(found, NoEvent):
        if partition_of(int(found["slot"]), context.partitions) == partition:
            return found
        found = NoEvent("it is of another partition")
    context.counters.unreadable += 1
    message = "Message %d is no event, it is skipped: %s"
    log.error(message, sequence, found, extra=about(_values(data)))
    return None


def _values(data: bytes) -> list[Any]:
    """The JSON value in a message, if it is one: it may have a correlation id."""
    try:
        return [orjson.loads(data)]
    except ValueError:
        return []
