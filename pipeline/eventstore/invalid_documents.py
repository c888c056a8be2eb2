"""What is in the collection beside the events: documents that are no account's event.

Anybody who may write there can put them there. Nobody reads them, so that somebody has to tell.
"""

from dataclasses import dataclass
from typing import Any, Final

from pipeline.eventstore.errors import reachable
from pipeline.eventstore.write_results import Collection
from pipeline.model.events import misplaced

EXAMPLES: Final = 10
_LIST: Final = 1000
_PLACE: Final = {"account_id": 1, "slot": 1, "version": 1}


@dataclass(frozen=True, slots=True)
class InvalidDocuments:
    """How many there are, and the first few in words."""

    number: int = 0
    examples: tuple[str, ...] = ()


async def invalid_documents(events: Collection) -> InvalidDocuments:
    """All that are there now; raises `StoreUnavailable`."""
    cursor = events.find({}, _PLACE).batch_size(_LIST)
    number = 0
    examples: list[str] = []
    while True:
        with reachable():
            found: list[Any] = await cursor.to_list(_LIST)
        if not found:
            return InvalidDocuments(number, tuple(examples))
        for document in found:
            if why := misplaced(document):
                number += 1
                examples.append(f"_id {document['_id']!r:.80}: {why}")
        del examples[EXAMPLES:]
