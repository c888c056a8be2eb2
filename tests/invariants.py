"""The invariants of a bank under a test's load, judged by its live checker and by what was told."""

from pipeline.eventstore import EventStore
from pipeline.model.events import SLOTS, Event
from pipeline.operations.checker.live import check_live
from pipeline.support.settings import Settings

JUDGED = {1, 2, 4, 5, 13, 16, 17, 18, 19, 20}
"""What the live checker can judge alone; the third needs what the clients were told."""


class Acknowledged:
    """The event store as the load sees it; what it has acknowledged is noted."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._ids: set[str] = set()

    async def append(self, event: Event) -> None:
        await self._store.append(event)
        self._ids.add(event["_id"])

    async def is_stored(self) -> bool:
        """Whether all of it is stored, and nothing else."""
        stored = [event["_id"] async for e in self._store.replay(range(SLOTS)) for event in e]
        return len(stored) == len(self._ids) and set(stored) == self._ids


async def invariants_hold(settings: Settings) -> None:
    """Assert that the live checker judges all that it can, and that all of it holds."""
    report = await check_live(settings)
    assert {verdict.number for verdict in report.verdicts if verdict.holds} == JUDGED, report
