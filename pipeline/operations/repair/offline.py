"""Repairs documents from a process that owns no partition, on the stores that the settings name.

It needs no worker. Workers may run: versions and eras decide whose write stays.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, Final

from pipeline.agents.rebuild.repair import Repaired, repair
from pipeline.coordination.consumer_progress import consumer_progress, last_sequences
from pipeline.coordination.partitioning import Partitioning, partitioning
from pipeline.messaging import JetStream
from pipeline.messaging.answers import ELECTION, repeatable, until_answered
from pipeline.model.events import slots_of
from pipeline.model.projection import Projection
from pipeline.operations.checker.live import Stores
from pipeline.operations.repair.compare import PATIENCE, Comparison
from pipeline.operations.repair.diff import Difference, DocumentDiff, diff_document
from pipeline.search import Elastic, Generation, GenerationGone, Generations
from pipeline.support.settings import Settings
from pipeline.tables.documents import AccountDocuments
from pipeline.tables.parked_accounts import ParkedAccountList
from pipeline.tables.versioned_document import ReplayedAccount

_ANSWER_SECONDS: Final = 5.0
_POLL: Final = 0.1
_REFRESH_SECONDS: Final = 1.0
"""Seconds after which every worker has read that an account is not parked any more."""


class CannotRepair(Exception):
    """This process can't judge the live generation; the message says why."""


class OfflineRepair:
    """Compares and repairs documents of whichever generation is live at the time."""

    def __init__(
        self, stores: Stores, elastic: Elastic, generations: Generations, parked: ParkedAccountList
    ) -> None:
        self.parked, self.projection = parked, stores.of
        self._stores, self._elastic, self._generations = stores, elastic, generations
        self._parking_lot = OwnerParkingLot(parked)

    def comparison(self, patience: float = PATIENCE, *, lag_differs: bool = False) -> Comparison:
        """With `lag_differs`, a document that is behind at the end of the patience is a
        difference."""
        stores = self._stores
        return Comparison(
            stores.store,
            stores.projection,
            None if lag_differs else _Log(stores.js, stores.of),
            stores.of,
            parked=self.parked,
            patience=patience,
        )

    async def diff(self, document_id: str) -> DocumentDiff:
        """Compare one document once."""
        account_id = self.projection.account_id(document_id)
        found = await self._stores.projection.found([document_id])
        stored = await self._stores.store.load_many([account_id])
        account = ReplayedAccount(self.projection, stored[account_id])
        return diff_document(document_id, found.get(document_id), account)

    def difference(self, document_id: str, diff: DocumentDiff) -> Difference:
        """The difference that such a comparison found."""
        return Difference.of(self.projection, document_id, diff, self.parked)

    async def repair(self, document_ids: Collection[str]) -> Repaired:
        """See `agents.rebuild.repair.repair`; starts again if the generation is dropped
        meanwhile."""
        while True:
            generation = await self.live()
            documents = AccountDocuments.uncached(
                self._elastic, generation, self._stores.store, self._parking_lot
            )
            try:
                return await repair(document_ids, self._stores.store, documents)
            except GenerationGone:
                await asyncio.sleep(_POLL)

    async def live(self) -> Generation:
        """The live generation; `CannotRepair` unless it is of this process' version of the fold."""
        generation = await self._elastic.patiently(self._generations.live)
        if generation is None:
            raise CannotRepair("there is no live generation; a worker makes one")
        if generation.version != self.projection.version:
            raise CannotRepair(
                f"{generation.index} is of version {generation.version} of the projection, "
                f"this command of version {self.projection.version}: it can't judge its documents"
            )
        return generation


@asynccontextmanager
async def offline_repair(settings: Settings, stores: Stores) -> AsyncIterator[OfflineRepair]:
    """Offline repair on these stores. Raises `CannotRepair`."""
    elastic = Elastic(settings.elasticsearch)
    parked = ParkedAccountList(stores.js, stores.of)
    try:
        await until_answered(parked.refresh, ELECTION)
        offline = OfflineRepair(stores, elastic, Generations(elastic, stores.of), parked)
        # Before anything is compared: it raises if this process can't judge the generation.
        await offline.live()
        yield offline
    finally:
        await elastic.close()


class _Log:
    """The stream, and how far the workers have applied it."""

    def __init__(self, js: JetStream, projection: Projection) -> None:
        self._js, self._projection = js, projection

    async def end(self) -> tuple[Partitioning, tuple[int, ...]] | None:
        return await until_answered(self._end, ELECTION)

    async def _end(self) -> tuple[Partitioning, tuple[int, ...]] | None:
        now = await partitioning(self._js)
        return (now, await last_sequences(self._js, now)) if now else None

    async def behind(self, end: tuple[Partitioning, tuple[int, ...]] | None) -> frozenset[int]:
        if end is None:
            return frozenset()
        now, last = end
        projections = [self._projection.name]
        found = await until_answered(
            lambda: consumer_progress(self._js, now, last, range(now.count), projections), ELECTION
        )
        late = [each.partition for each in found if each.events]
        return frozenset(slot for each in late for slot in slots_of(each, now.count))


class OwnerParkingLot:
    """The parking lot for a process that owns no partition. The partition's owner takes an account
    off the list, because only the owner knows which events arrived while the account was parked.

    If no owner answers in time, the partition has none, and this process takes the account off.
    """

    def __init__(self, parked: ParkedAccountList) -> None:
        self._parked, self._answered = parked, True

    def __contains__(self, account_id: str) -> bool:
        return account_id in self._parked

    async def park(self, account_id: str, **about: Any) -> object:
        return await self._parked.park(account_id, **about)

    async def drop(self, account_id: str) -> bool:
        if account_id not in self._parked:
            return False
        attempts = self._parked[account_id].attempts
        if self._answered:
            await until_answered(lambda: self._parked.ask_retry(account_id), ELECTION)
            self._answered = await self._answer(account_id, attempts)
        if account_id not in self._parked or self._parked[account_id].attempts > attempts:
            return account_id not in self._parked
        drop = repeatable(lambda: self._parked.drop(account_id))
        dropped = await until_answered(drop, ELECTION)
        await asyncio.sleep(_REFRESH_SECONDS)
        return dropped

    async def _answer(self, account_id: str, attempts: int) -> bool:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < deadline:
            await until_answered(self._parked.refresh, ELECTION)
            if account_id not in self._parked or self._parked[account_id].attempts > attempts:
                return True
            await asyncio.sleep(_POLL)
        return False
