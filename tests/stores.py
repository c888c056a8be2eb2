"""One generation and the event store beneath it, without workers: for tests that play them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from pipeline.agents.rebuild.repair import Repaired, repair_partition
from pipeline.banking.balance import BALANCE
from pipeline.eventstore import EventStore
from pipeline.model.events import Event, slots_of
from pipeline.model.projection import ERA, Projection
from pipeline.operations.repair.compare import ComparisonStore
from pipeline.search import Elastic, Generation, Generations, Stamp
from pipeline.search.scan import IndexScan
from pipeline.support.settings import Settings
from pipeline.tables.counters import Counters
from pipeline.tables.documents import AccountDocuments
from pipeline.tables.projection_table import ProjectionTable
from pipeline.tables.versioned_document import DocumentCache
from tests.bank import Lot, append, as_delivered, exact
from tests.damage import Hand


@dataclass
class Stores:
    settings: Settings
    elastic: Elastic
    store: EventStore
    survey: IndexScan
    generation: Generation
    hand: Hand
    lot: Lot = field(default_factory=Lot)

    def table(self, capacity: int = 100) -> ProjectionTable:
        """A worker's."""
        return ProjectionTable(
            self.elastic, self.generation, self.store, self.lot, Counters(), capacity=capacity
        )

    def documents(self, store: ComparisonStore | None = None) -> AccountDocuments:
        """A mender's; it may see another store."""
        return AccountDocuments(
            self.elastic,
            self.generation,
            store or self.store,
            self.lot,
            Counters(),
            DocumentCache(0),
        )

    async def live(self, *histories: list[Event]) -> ProjectionTable:
        """Store histories and apply them; the worker that did it."""
        await append(self.store, histories)
        table = self.table()
        await table.apply(as_delivered(event for history in histories for event in history))
        return table

    async def arrives(self, table: ProjectionTable, *events: Event) -> None:
        """The next events of their accounts, stored and applied."""
        await append(self.store, [[event] for event in events])
        await table.apply(as_delivered(events))

    async def mend_partition(self, partition: int = 0, partitions: int = 1) -> Repaired:
        slots = slots_of(partition, partitions)
        return await repair_partition(slots, self.store, self.documents(), self.survey)

    async def exact(self) -> bool:
        """Whether the index is what the store says, with nothing in it that is not ours."""
        url, projection = self.settings.elasticsearch_url, self.generation.projection
        return await exact(url, self.store, projection) and await self.sound()

    async def sound(self) -> bool:
        """Whether each document's `_version` is as we write it."""
        async for page in self.survey.ids():
            for found in (await self.survey.found(page)).values():
                if found.version % ERA != found.source["version"]:
                    return False
        return True

    async def shows(self, *histories: list[Event]) -> bool:
        found = await self.survey.documents([history[0]["account_id"] for history in histories])
        return all(found.get(h[0]["account_id"]) == BALANCE.fold_all(h) for h in histories)

    async def stamps(self) -> dict[str, Stamp]:
        """Which write each document is of."""
        stamps: dict[str, Stamp] = {}
        async for page in self.survey.ids():
            found = await self.survey.found(page)
            stamps |= {each: there.stamp for each, there in found.items()}
        return stamps


@asynccontextmanager
async def stores(settings: Settings, projection: Projection = BALANCE) -> AsyncIterator[Stores]:
    elastic = Elastic(settings.elasticsearch_url)
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    generation = await Generations(elastic, projection).ensure_live()
    survey = IndexScan(settings.elasticsearch_url, projection.alias)
    async with aiohttp.ClientSession(settings.elasticsearch_url) as http:
        hand = Hand(http, generation.index)
        yield Stores(settings, elastic, store, survey, generation, hand)
    await survey.close()
    await elastic.close()
    await store.close()
