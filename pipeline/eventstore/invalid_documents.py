"""Finds the invalid documents in the collection `events`: those that are no account's event.

Anybody with write access to MongoDB can insert them. Readers ignore them; `bank verify` reports
them.
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
    """The number of invalid documents, and a description of the first few."""

    number: int = 0
    examples: tuple[str, ...] = ()


async def invalid_documents(events: Collection) -> InvalidDocuments:
    """Scan the collection; raises `StoreUnavailable`."""
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
