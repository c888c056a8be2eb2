"""What deliveries hold, applied to every generation that the partition writes."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from pipeline.events import Event, NoEvent, decode
from pipeline.index import GenerationGone
from pipeline.shared import Shared, Taken
from pipeline.source import Delivery, is_marker
from pipeline.tables.checkpoints import Lost

log = logging.getLogger(__name__)

Synchronise = Callable[[Taken], Awaitable[None]]


async def apply(
    shared: Shared, taken: Taken, batch: Sequence[Delivery], synchronise: Synchronise
) -> int:
    """Apply what the deliveries hold beyond our position; a marker among them is seen to.

    Returns how many messages that was. Raises `Lost` when something was not delivered, and
    `GenerationGone`; whatever else it raises, it may be repeated.
    """
    events: list[Event] = []
    position, count = taken.position, 0
    for delivery in batch:
        if delivery.previous > position:
            raise Lost(f"nothing was delivered between {position} and {delivery.previous}")
        for sequence, data in delivery.messages:
            if sequence <= position:
                continue
            count += 1
            if is_marker(data):
                await _write(shared, taken, events)
                events.clear()
                await synchronise(taken)
            else:
                events += _event(shared, data, sequence)
        position = max(position, delivery.last)
    await _write(shared, taken, events)
    return count


async def _write(shared: Shared, taken: Taken, events: Sequence[Event]) -> None:
    """The generation being built comes first: it is never behind what readers see."""
    building = taken.building
    if building is not None and building.begun is not None:
        begun = [event for event in events if event["slot"] < building.begun]
        try:
            await building.table.apply(begun)
        except GenerationGone as error:
            log.warning("%s is not built any more: %s", building.generation.index, error)
            taken.building = None
    if not taken.live.frozen:
        await taken.live.table.apply(events)
    elif taken.building is None:
        raise Lost("there is no generation to write")


def _event(shared: Shared, data: bytes, sequence: int) -> Sequence[Event]:
    """The event in a message; none in one that a stranger published, which is skipped."""
    try:
        return (decode(data),)
    except NoEvent as error:
        shared.counters.unreadable += 1
        log.error("Message %d is no event, it is skipped: %s", sequence, error)
        return ()
