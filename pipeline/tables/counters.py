"""What happened to events and documents, counted for people and metrics."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What happened to events and documents, for people and metrics.

    `applied`, `duplicates`, `reordered`: events. `gaps`, `unsound`: accounts loaded from the store
    because an event, or a believable document, was missing; `healed` is both. `repaired`: accounts
    rewritten over what somebody wrote by hand. `documents`: written. `rejected`: refused for good.
    """

    applied: int = 0
    duplicates: int = 0
    reordered: int = 0
    gaps: int = 0
    unsound: int = 0
    repaired: int = 0
    documents: int = 0
    rejected: int = 0
    synchronised: int = 0
    retaken: int = 0

    @property
    def healed(self) -> int:
        return self.gaps + self.unsound
