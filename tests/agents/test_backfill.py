"""Backfilling a partition from the event store, over whatever is in the index already."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from pipeline.agents.backfill import BackfillProgress, backfill
from pipeline.banking.balance import BALANCE
from pipeline.eventstore import EventStore
from pipeline.model.events import SLOTS, Event, slots_of
from pipeline.search import Elastic, Generation, GenerationGone, Generations, Write
from pipeline.support.settings import Settings
from pipeline.tables.counters import Counters
from pipeline.tables.projection_table import ProjectionTable
from tests.bank import PARTITIONS, Lot, accounts, append, exact

pytestmark = pytest.mark.elasticsearch


@dataclass
class World:
    elastic: Elastic
    store: EventStore
    generation: Generation
    settings: Settings

    lot: Lot = field(default_factory=Lot)

    def table(self) -> ProjectionTable:
        return ProjectionTable(
            self.elastic, self.generation, self.store, self.lot, Counters(), capacity=50
        )

    async def synchronise(self) -> list[BackfillProgress]:
        """Every partition, all at the same time."""
        return await asyncio.gather(
            *(
                backfill(slots_of(p, PARTITIONS), self.store, self.table().documents)
                for p in range(PARTITIONS)
            )
        )

    async def exact(self) -> bool:
        return await exact(self.settings.elasticsearch_url, self.store)


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    elastic = Elastic(settings.elasticsearch_url)
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    yield World(elastic, store, await Generations(elastic, BALANCE).ensure_live(), settings)
    await elastic.close()
    await store.close()


async def test_an_empty_index_is_filled_exactly(world: World) -> None:
    histories = accounts(60, 5)
    await append(world.store, histories)
    reports = await world.synchronise()
    assert await world.exact()
    assert sum(r.events for r in reports) == 300
    assert sum(r.accounts for r in reports) == sum(r.written for r in reports) == 60
    assert all(r.done == r.slots == 256 for r in reports)


async def test_an_empty_store_leaves_nothing(world: World) -> None:
    reports = await world.synchronise()
    assert await world.exact()
    assert sum(r.written for r in reports) == 0


async def test_only_what_is_wrong_is_written(world: World) -> None:
    """Exact, older, missing, deleted by hand, overwritten by hand, and soundly wrong."""
    histories = accounts(40, 5)
    await append(world.store, histories)
    await world.synchronise()
    victims = [events[0]["account_id"] for events in histories[:4]]
    async with aiohttp.ClientSession(world.settings.elasticsearch_url) as http:
        path = f"/{world.generation.index}/_doc"
        async with http.delete(f"{path}/{victims[0]}") as answer:
            assert answer.status == 200
        junk = {"id": victims[1], "balance": 10**9}
        async with http.put(f"{path}/{victims[1]}", json=junk) as answer:
            assert answer.status == 200
        lie: Any = {**(BALANCE.fold_all(histories[2]) or {}), "balance": 10**9, "version": 5}
        lying = f"{path}/{victims[2]}?version=5&version_type=external_gte"
        async with http.put(lying, json=lie) as answer:
            assert answer.status == 200
    (new,) = accounts(1, 2)
    await append(world.store, [new])
    assert not await world.exact()
    assert sum(r.written for r in await world.synchronise()) == 4
    assert await world.exact()
    assert sum(r.written for r in await world.synchronise()) == 0


async def test_documents_behind_the_store_catch_up(world: World) -> None:
    histories = accounts(10, 6)
    await append(world.store, histories)
    for events in histories:
        document: Any = BALANCE.fold_all(events[:3])
        await world.elastic.bulk(world.generation.alias, [Write(document["id"], 3, document)])
    await world.synchronise()
    assert await world.exact()


async def test_progress_is_told_and_reaches_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.agents.backfill.CHUNK", 10)
    await append(world.store, accounts(50, 2))
    seen: list[tuple[int, int]] = []
    report = await backfill(
        range(SLOTS),
        world.store,
        world.table().documents,
        lambda p: seen.append((p.done, p.written)),
    )
    assert await exact(world.settings.elasticsearch_url, world.store)
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (1024, 50)
    assert (report.done, report.slots, report.written) == (1024, 1024, 50)


async def test_an_account_longer_than_a_list_is_one_document(world: World) -> None:
    (events,) = accounts(1, 2300)
    stored = StoreOf(events, 1000)
    report = await backfill(range(SLOTS), stored, world.table().documents)
    assert (report.events, report.accounts, report.written) == (2300, 1, 1)
    found = await world.elastic.mget(world.generation.alias, [events[0]["account_id"]])
    assert [each.source for each in found.values()] == [BALANCE.fold_all(events)]


async def test_a_deleted_generation_ends_it(world: World) -> None:
    await append(world.store, accounts(5, 2))
    await world.elastic.client.indices.delete(index=world.generation.index)
    with pytest.raises(GenerationGone):
        await backfill(range(SLOTS), world.store, world.table().documents)


def test_partitions_share_out_all_slots() -> None:
    slots = [slot for p in range(PARTITIONS) for slot in slots_of(p, PARTITIONS)]
    assert slots == list(range(1024))


class StoreOf:
    """A store that replays given events, in lists of a given length."""

    def __init__(self, events: list[Event], length: int) -> None:
        self._events, self._length = events, length

    async def replay(self, slots: Any) -> AsyncIterator[list[Event]]:
        for start in range(0, len(self._events), self._length):
            yield self._events[start : start + self._length]
