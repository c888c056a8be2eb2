"""How long events wait: from being stored until the index has them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from pipeline.eventstore import EventStore
from pipeline.model.events import Event
from pipeline.search import Elastic, GenerationGone

HERTZ = 20
MOST = 200
"""So many accounts may wait."""


@dataclass(slots=True)
class Waits:
    """An event store that notes when an event was stored; and how long each waited, in seconds."""

    store: EventStore
    longest: float = 0.0
    seen: int = 0
    _waiting: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, event: Event) -> None:
        """Store it, and wait for it from then on; not faster than a slow machine projects."""
        await self._room.wait()
        await self.store.append(event)
        waiting = self._waiting.setdefault(event["account_id"], [])
        waiting.append((event["version"], time.monotonic()))

    def look(self, versions: dict[str, int]) -> None:
        """Versions of documents as they are now."""
        now = time.monotonic()
        for account, version in versions.items():
            waiting = self._waiting.get(account, [])
            for shown in [each for each in waiting if each[0] <= version]:
                waiting.remove(shown)
                self.seen += 1
                self.longest = max(self.longest, now - shown[1])
            if not waiting:
                self._waiting.pop(account, None)
        if len(self._waiting) < MOST:
            self._room.set()
        else:
            self._room.clear()

    @property
    def waiting(self) -> list[str]:
        """The accounts that an event of is not in the index yet."""
        return list(self._waiting)

    def oldest(self) -> float:
        """When the first event that still waits was stored, by the monotonic clock."""
        stored = [each[1] for waiting in self._waiting.values() for each in waiting]
        return min(stored, default=time.monotonic())

    def begin(self) -> None:
        """Forget what was measured; what waits goes on waiting."""
        self.longest, self.seen = 0.0, 0


@asynccontextmanager
async def measured(url: str, store: EventStore, alias: str = "balance") -> AsyncIterator[Waits]:
    """Append by what is given here; documents are looked at while the block runs."""
    waits, elastic, stop = Waits(store), Elastic(url), asyncio.Event()

    async def look() -> None:
        while not stop.is_set():
            with suppress(GenerationGone):
                ids = waits.waiting
                found = await elastic.mget(alias, ids) if ids else {}
                waits.look({key: each.source["version"] for key, each in found.items()})
            await asyncio.sleep(1 / HERTZ)

    task = asyncio.create_task(look())
    try:
        yield waits
    finally:
        stop.set()
        await task
        await elastic.close()
