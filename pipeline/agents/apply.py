"""What deliveries hold, applied to every generation that the partition writes."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from pipeline.agents.context import OwnedPartition, ProjectionContext
from pipeline.agents.source import Delivery, is_marker
from pipeline.model.events import Event, NoEvent, event_in, partition_of
from pipeline.search import GenerationGone
from pipeline.support.correlation import about
from pipeline.support.tracing import carrying
from pipeline.tables.checkpoints import PositionLost

log = logging.getLogger(__name__)

Backfill = Callable[[OwnedPartition], Awaitable[None]]


async def apply(
    context: ProjectionContext,
    owned: OwnedPartition,
    batch: Sequence[Delivery],
    backfill: Backfill,
) -> int:
    """Apply what the deliveries hold beyond our position; a marker among them is seen to.

    Returns how many messages that was. Raises `PositionLost` when something was not delivered, and
    `GenerationGone`; whatever else it raises, it may be repeated.
    """
    events: list[Event] = []
    position, count, backfilled = owned.position, 0, False
    for delivery in batch:
        if delivery.previous > position:
            raise PositionLost(f"nothing was delivered between {position} and {delivery.previous}")
        held = delivery.read(event_in)
        for (sequence, data), found in zip(delivery.messages, held, strict=True):
            if sequence <= position:
                continue
            count += 1
            if is_marker(data):
                if backfilled:  # the store was read after all of these were published
                    continue
                await _write(context, owned, events)
                events.clear()
                await backfill(owned)
                backfilled = True
            else:
                events += _event(context, delivery.partition, sequence, data, found)
        position = max(position, delivery.last)
    await _write(context, owned, events)
    return count


async def _write(
    context: ProjectionContext, owned: OwnedPartition, events: Sequence[Event]
) -> None:
    with carrying("apply", events, "CONSUMER"):
        await _write_all(context, owned, events)
    if events and log.isEnabledFor(logging.DEBUG):
        indexes = ", ".join(each.index for each in owned.generations)
        log.debug("Applied %d events to %s", len(events), indexes, extra=about(events))


async def _write_all(
    context: ProjectionContext, owned: OwnedPartition, events: Sequence[Event]
) -> None:
    """The generation being built comes first: it is never behind what readers see."""
    building = owned.building
    if building is not None and building.begun is not None:
        begun = [event for event in events if event["slot"] < building.begun]
        try:
            await building.table.apply(begun)
        except GenerationGone as error:
            log.warning("%s is not built any more: %s", building.generation.index, error)
            owned.building = None
    if not owned.live.frozen:
        await owned.live.table.apply(events)
    elif owned.building is None:
        raise PositionLost("there is no generation to write")


def _event(
    context: ProjectionContext, partition: int, sequence: int, data: bytes, found: Event | NoEvent
) -> Sequence[Event]:
    """The event in a message; none in one that a stranger published, which is skipped.

    An event of another partition is none here: its owner may not have come so far.
    """
    if not isinstance(found, NoEvent):
        if partition_of(int(found["slot"]), context.partitions) == partition:
            return (found,)
        found = NoEvent("it is of another partition")
    context.counters.unreadable += 1
    said = "Message %d is no event, it is skipped: %s"
    log.error(said, sequence, found, extra=about(_values(data)))
    return ()


def _values(data: bytes) -> list[Any]:
    """The JSON value in a message, if it is one: it may yet say whose it is."""
    try:
        return [orjson.loads(data)]
    except ValueError:
        return []
