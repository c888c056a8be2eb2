"""The bank's forwarder with a change stream that has the events of a range of slots alone.

python -m tests.cluster.split.ranged 0 512
"""

import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, cast
from unittest.mock import patch

from pipeline.cli.running import configured, run_role
from pipeline.coordination.leases import FORWARDER
from pipeline.eventstore import EventStore, changes
from pipeline.eventstore.write_results import Collection
from pipeline.forwarder import service
from pipeline.support.access import ServerAccess


class Filtered:
    """A collection, or its database, whose change streams have the inserts of some slots."""

    def __init__(self, real: Any, slots: range) -> None:
        self._real, self._slots = real, slots

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @property
    def database(self) -> "Filtered":
        return Filtered(self._real.database, self._slots)

    async def command(self, query: Mapping[str, Any], **options: Any) -> Any:
        if "pipeline" in query:
            ours = {"fullDocument.slot": {"$gte": self._slots.start, "$lt": self._slots.stop}}
            query = {**query, "pipeline": [*query["pipeline"], {"$match": ours}]}
        return await self._real.command(query, **options)


class RangedStore(EventStore):
    """The event store as the forwarder of some slots sees it."""

    def __init__(self, at: ServerAccess | str, database: str, *, slots: range) -> None:
        super().__init__(at, database)
        self._range = slots

    def watch(
        self, token: str | None, kinds: Iterable[str] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[changes.Changes]]:
        return changes.watch(cast(Collection, Filtered(self._events, self._range)), token, kinds)


def main() -> None:
    slots = range(int(sys.argv[1]), int(sys.argv[2]))
    lease = f"{FORWARDER}-{slots.start}"
    store = partial(RangedStore, slots=slots)
    with patch.multiple(service, EventStore=store, FORWARDER=lease):
        run_role(service.run(configured("forwarder")))


if __name__ == "__main__":
    main()
