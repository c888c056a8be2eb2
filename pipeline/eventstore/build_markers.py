"""Markers of index builds: while a guard has one, nobody trusts its index.

The embedded server keeps a partly built index if it is killed while it builds one, and lists it
like a whole one. So a builder makes a marker, an empty collection, before it builds, and drops it
once the server has confirmed the build. A marker whose builder or server died stays, until another
builder makes a marker of its own, drops the abandoned one and builds the index from the beginning.

No two markers have the same name, so that a late builder never drops another one's.
"""

import random
import time
from collections.abc import Collection as Some
from typing import Final

from pymongo import IndexModel
from ulid import ULID

from pipeline.eventstore.guards import collections_of
from pipeline.eventstore.indexes import markers_of
from pipeline.eventstore.write_results import Collection

_PATIENCE: Final = 1.0
"""Seconds of an answering server after which a marker counts as abandoned. A builder that is slower
loses its turn, and no more."""
_MOST_PATIENCE: Final = 8.0
_STEP: Final = 0.9
"""Seconds that count, at most, from one look at the markers to the next. Less than the patience:
the embedded server is silent while it drops or builds an index, and at the first look after that
the builder has not had the time to go on, or to drop its marker."""


class BuildMarkers:
    """A process needs one instance."""

    def __init__(self, events: Collection) -> None:
        self._events = events
        self._patience = _PATIENCE
        self._looked = 0.0
        self._left: dict[str, float] = {}
        """For how many more seconds the server must answer until each marker that this process sees
        counts as abandoned.

        Each one more that comes before all are gone has twice the time of the one before. Else the
        builders of a slow machine would take each other's turns for ever."""

    async def there(self) -> list[str]:
        """The markers of all guards."""
        found, now = await collections_of(self._events), time.monotonic()
        passed, self._looked = min(now - self._looked, _STEP), now
        found.pop(self._events.name, None)
        if not found:
            self._patience = _PATIENCE
        left = {name: self._left[name] - passed for name in found if name in self._left}
        for name in found.keys() - left.keys():
            # After a silence all builders see a marker at the same moment. With the same patience
            # they would announce at the same moment, too: one would build, and another one's
            # marker, whose answer is late, would stay after the build.
            left[name] = self._patience * random.uniform(1, 2)
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
        self._left = left
        return [*found]

    def abandoned(self, marker: str) -> bool:
        """Whether its builder has had the time to go on."""
        return self._left[marker] <= 0

    def give_up(self, marker: str) -> None:
        """Have a marker of this process count as abandoned, for it has no command under way."""
        self._left[marker] = 0.0

    async def announce(self, guard: IndexModel, abandoned: Some[str]) -> str | None:
        """Make a marker, and take the place of the abandoned ones. None if another process builds:
        it has made a marker before, or has removed an abandoned one."""
        mine = markers_of(guard) + str(ULID())
        await self._events.database.create_collection(mine, check_exists=False)
        there = [name for name in await self.there() if name.startswith(markers_of(guard))]
        first = min((name for name in there if name not in abandoned), default=None)
        if mine != first or not {*abandoned} <= {*there}:
            await self.remove(mine)
            return None
        for name in abandoned:
            await self.remove(name)
        return mine

    async def remove(self, marker: str) -> None:
        await self._events.database.drop_collection(marker)
