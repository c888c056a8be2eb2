"""The table of balances: documents become what the store says, however events arrive and whoever
writes over them by hand."""

import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import hypothesis
import pymongo
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from ulid import ULID

from pipeline.banking.balance import BALANCE
from pipeline.banking.events import DEPOSITED
from pipeline.eventstore import EventStore
from pipeline.model.events import Event, new_event
from pipeline.model.projection import ERA
from pipeline.search import Elastic, Generation, GenerationGone, Generations
from pipeline.support.settings import Settings
from pipeline.tables.counters import Counters
from pipeline.tables.projection_table import ProjectionTable
from tests.bank import Lot, accounts, append, as_delivered, history
from tests.harness import rounds

pytestmark = pytest.mark.elasticsearch

EXAMPLES = hypothesis.settings(
    max_examples=rounds(15, 300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class World:
    elastic: Elastic
    store: EventStore
    generation: Generation
    http: aiohttp.ClientSession
    settings: Settings
    lot: Lot = field(default_factory=Lot)

    def table(self, capacity: int = 100) -> ProjectionTable:
        return ProjectionTable(
            self.elastic, self.generation, self.store, self.lot, Counters(), capacity=capacity
        )

    async def documents(self, *histories: list[Event]) -> list[Any]:
        ids = [events[0]["account_id"] for events in histories]
        found = await self.elastic.mget(self.generation.alias, ids)
        return [found[each].source if each in found else None for each in ids]

    async def version(self, account_id: str) -> int:
        return (await self.elastic.mget(self.generation.alias, [account_id]))[account_id].version

    async def mend(self, event: Event) -> None:
        """Put an event in the place of the one with its id."""
        with pymongo.MongoClient[Any](self.settings.mongodb_url, retryWrites=False) as client:
            events = client[self.settings.mongodb_database]["events"]
            assert events.replace_one({"_id": event["_id"]}, event).matched_count == 1

    async def damage(self, kind: str, account_id: str) -> None:
        """What people do with curl."""
        path = f"/{self.generation.index}/_doc/{account_id}"
        junk = {"id": account_id, "owner": "Mallory", "balance": 10**9}
        match kind:
            case "put":
                method, params, body = "PUT", "", junk
            case "raise":
                method, body = "PUT", {**junk, "version": 1}
                params = f"?version={5 * ERA + 77}&version_type=external_gte"
            case "delete":
                method, params, body = "DELETE", "", None  # type: ignore[assignment]
            case _:
                raise AssertionError(kind)
        async with self.http.request(method, path + params, json=body) as answer:
            assert answer.status < 300 or answer.status in (404, 409), await answer.text()


DAMAGE = ("put", "raise", "delete")


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    elastic = Elastic(settings.elasticsearch_url)
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    generation = await Generations(elastic, BALANCE).ensure_live()
    async with aiohttp.ClientSession(settings.elasticsearch_url) as http:
        yield World(elastic, store, generation, http, settings)
    await elastic.close()
    await store.close()


async def test_a_batch_writes_one_document_for_each_account(world: World) -> None:
    histories = accounts(3, 4)
    table = world.table()
    written = await table.apply(as_delivered(e for h in histories for e in h))
    assert written == 3
    assert await world.documents(*histories) == [BALANCE.fold_all(h) for h in histories]
    assert (table.counters.applied, table.counters.documents) == (12, 3)
    assert await world.version(histories[0][0]["account_id"]) == 4


async def test_a_duplicate_heals_and_is_counted(world: World) -> None:
    events = history(str(ULID()), 4)
    table = world.table()
    await table.apply([*events[:3], *events[1:3]])
    await table.apply(events[2:])
    assert await world.documents(events) == [BALANCE.fold_all(events)]
    assert (table.counters.duplicates, table.counters.applied) == (3, 4)
    assert table.counters.healed == 0


async def test_events_in_another_order_heal_and_are_counted(world: World) -> None:
    events = history(str(ULID()), 5)
    table = world.table()
    await table.apply([events[0], events[3], events[2], events[1], events[4]])
    assert await world.documents(events) == [BALANCE.fold_all(events)]
    assert (table.counters.reordered, table.counters.applied) == (2, 5)
    assert table.counters.healed == 0


@pytest.mark.parametrize("skipped", [0, 2])
@pytest.mark.parametrize("cached", [True, False])
async def test_a_skipped_event_heals_and_is_counted(
    world: World, skipped: int, cached: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pipeline.tables.projection_table")
    events = history(str(ULID()), 5)
    await append(world.store, [events])
    table = world.table()
    await table.apply(events[:skipped])
    later = table if cached else world.table()
    await later.apply(events[skipped + 1 :])
    assert await world.documents(events) == [BALANCE.fold_all(events)]
    assert later.counters.gaps == later.counters.healed == 1
    [told] = [each for each in caplog.records if each.name == "pipeline.tables.projection_table"]
    assert told.getMessage() == "Loaded from the event store: 1 accounts"
    assert told.__dict__["correlation_ids"] == [e["correlation_id"] for e in events[skipped + 1 :]]
    await later.apply([events[skipped]])
    assert await world.documents(events) == [BALANCE.fold_all(events)]


async def test_another_worker_goes_on_from_what_is_there(world: World) -> None:
    events = history(str(ULID()), 6)
    await world.table().apply(events[:3])
    later = world.table()
    await later.apply(events[3:])
    assert await world.documents(events) == [BALANCE.fold_all(events)]
    assert later.counters.healed == 0


async def test_a_worker_that_woke_up_late_takes_nothing_back(world: World) -> None:
    events = history(str(ULID()), 6)
    await append(world.store, [events])
    late = world.table()
    await late.apply(events[:2])
    await world.table().apply(events[2:])
    await late.apply(events[2:4])
    assert await world.documents(events) == [BALANCE.fold_all(events)]
    assert late.counters.repaired == 0
    await late.apply(events[4:])
    assert late.counters.duplicates == 2, "it learnt what is there"


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("cached", [True, False])
async def test_damage_by_hand_heals_with_the_next_event(
    world: World, kind: str, cached: bool
) -> None:
    events = history(str(ULID()), 8)
    account_id = events[0]["account_id"]
    await append(world.store, [events[:3]])
    table = world.table()
    await table.apply(events[:3])
    for step in range(3, 8):
        await world.damage(kind, account_id)
        table = table if cached else world.table()
        await world.store.append(events[step])
        await table.apply([events[step]])
        assert await world.documents(events) == [BALANCE.fold_all(events[: step + 1])]
    assert await world.version(account_id) % ERA == 8


async def test_a_repaired_account_keeps_its_era(world: World) -> None:
    events = history(str(ULID()), 5)
    account_id = events[0]["account_id"]
    await append(world.store, [events[:3]])
    table = world.table()
    await table.apply(events[:2])
    await world.damage("raise", account_id)
    await table.apply(events[2:3])
    assert table.counters.repaired == 1
    assert await world.version(account_id) == 6 * ERA + 3
    for step, each in ((3, table), (4, world.table())):
        await world.store.append(events[step])
        await each.apply([events[step]])
        assert await world.version(account_id) == 6 * ERA + step + 1
        assert each.counters.healed == 0


async def test_a_small_cache_stays_exact(world: World) -> None:
    histories = accounts(30, 8)
    await append(world.store, histories)
    table = world.table(capacity=3)
    rng = random.Random(1)
    progress = [0] * len(histories)
    while any(done < 8 for done in progress):
        batch = []
        for number in rng.sample(range(len(histories)), 7):
            done = progress[number]
            progress[number] = min(8, done + rng.randint(0, 2))
            batch += histories[number][done : progress[number]]
        await table.apply(batch)
    assert await world.documents(*histories) == [BALANCE.fold_all(h) for h in histories]
    assert table.counters.healed == table.counters.duplicates == 0


async def test_an_event_that_the_store_does_not_know_is_not_shown(world: World) -> None:
    events = history(str(ULID()), 5)
    await append(world.store, [events[:2]])
    await world.table().apply([events[4]])
    assert await world.documents(events) == [BALANCE.fold_all(events[:2])]


async def test_a_deleted_generation_is_told(world: World) -> None:
    events = history(str(ULID()), 3)
    table = world.table()
    await table.apply(events[:1])
    async with world.http.delete(f"/{world.generation.index}"):
        pass
    with pytest.raises(GenerationGone):
        await table.apply(events[1:])
    with pytest.raises(GenerationGone):
        await world.table().apply(events[1:])


@EXAMPLES
@given(data=st.data())
async def test_any_delivery_converges_to_the_fold(world: World, data: st.DataObject) -> None:
    """Repeated, reordered, skipped, over a cache of any size, by one worker after another."""
    histories = [history(str(ULID()), data.draw(st.integers(1, 6))) for _ in range(2)]
    everything = [event for events in histories for event in events]
    await append(world.store, histories)
    table = world.table(capacity=data.draw(st.sampled_from([1, 100])))
    delivered = dict.fromkeys((h[0]["account_id"] for h in histories), 0)
    batches = data.draw(
        st.lists(st.lists(st.sampled_from(everything), max_size=8), min_size=1, max_size=4)
    )
    for batch in batches:
        if data.draw(st.booleans()):
            table = world.table()
        await table.apply(as_delivered(batch))
        for event in batch:
            account = event["account_id"]
            delivered[account] = max(delivered[account], event["version"])
        for events, document in zip(histories, await world.documents(*histories), strict=True):
            version = document["version"] if document else 0
            assert version >= delivered[events[0]["account_id"]]
            assert document == BALANCE.fold_all(events[:version])
    await table.apply(as_delivered(events[-1] for events in histories))
    assert await world.documents(*histories) == [BALANCE.fold_all(h) for h in histories]


@EXAMPLES
@given(data=st.data())
async def test_any_damage_heals_with_the_next_event(world: World, data: st.DataObject) -> None:
    events = history(str(ULID()), 6)
    table = world.table()
    for event in events[:-1]:
        await world.store.append(event)
        for kind in data.draw(st.lists(st.sampled_from(DAMAGE), max_size=2)):
            await world.damage(kind, event["account_id"])
        if data.draw(st.booleans()):
            table = world.table()
        if data.draw(st.booleans()):
            await table.apply([event])
    await world.store.append(events[-1])
    await table.apply(events[-1:])
    assert await world.documents(events) == [BALANCE.fold_all(events)]


def spoiled(events: list[Event], at: int, **change: Any) -> list[Event]:
    """The history with one event as it must not be."""
    wrong: Any = {**events[at], **change}
    return [*events[:at], wrong, *events[at + 1 :]]


POISONS: list[dict[str, Any]] = [
    {"kind": "MoneyPrinted"},
    {"schema": 2},
    {"body": {"money": "1"}},
    {"body": {"money": 2**63 - 1}, "kind": "MoneyDeposited"},
    {"created_at": None},
]


@pytest.mark.parametrize("change", POISONS, ids=str)
async def test_a_poison_event_parks_its_account_and_no_other(
    world: World, change: dict[str, Any]
) -> None:
    sick, sound = spoiled(history(str(ULID()), 6), 3, **change), history(str(ULID()), 6)
    await append(world.store, [sick, sound])
    table = world.table()
    for step in range(6):
        await table.apply(as_delivered([sick[step], sound[step]]))
    assert await world.documents(sick, sound) == [
        BALANCE.fold_all(sick[:3]),
        BALANCE.fold_all(sound),
    ]
    assert [(key, about["version"]) for key, about in world.lot.items()] == [
        (sick[0]["account_id"], 4)
    ]
    assert (table.counters.parked, table.counters.waiting) == (1, 2)
    await table.documents.replay(sick[0]["account_id"])
    assert len(world.lot) == 1
    assert table.counters.parked == 2


async def test_a_parked_account_is_right_when_the_cause_is_mended(world: World) -> None:
    good = history(str(ULID()), 8)
    await append(world.store, [spoiled(good, 3, kind="MoneyPrinted")])
    table, account_id = world.table(), good[0]["account_id"]
    await table.apply(as_delivered(spoiled(good, 3, kind="MoneyPrinted")))
    assert account_id in world.lot
    await world.mend(good[3])
    await table.documents.replay(account_id)
    assert not world.lot
    assert await world.documents(good) == [BALANCE.fold_all(good)]
    more = new_event(account_id, 9, DEPOSITED, {"money": 1})
    await world.store.append(more)
    await table.apply(as_delivered([more]))
    assert await world.documents(good) == [BALANCE.fold_all([*good, more])]


async def test_an_event_that_is_wrong_in_the_stream_alone_parks_nobody(world: World) -> None:
    events = history(str(ULID()), 6)
    await append(world.store, [events])
    table = world.table()
    await table.apply(as_delivered(events[:2]))
    await table.apply(as_delivered([{**events[2], "kind": "MoneyPrinted"}]))
    assert not world.lot
    assert await world.documents(events) == [BALANCE.fold_all(events)]


async def test_a_hole_in_a_history_parks_the_account(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    events = history(str(ULID()), 6)
    await append(world.store, [events[:2] + events[3:]])
    table = world.table()
    await table.apply(as_delivered(events[:2] + events[3:]))
    assert world.lot[events[0]["account_id"]]["version"] == 4
    [told] = [each for each in caplog.records if "is parked" in each.getMessage()]
    assert told.__dict__["correlation_ids"] == [events[3]["correlation_id"]]
    assert await world.documents(events) == [BALANCE.fold_all(events[:2])]


async def test_what_elasticsearch_refuses_parks_its_account(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Here the mapping was made by hand, and takes low slots only: other accounts are at fault
    alone."""
    caplog.set_level(logging.INFO, "pipeline.tables.projection_table")
    histories = [each for each in accounts(20, 4) if each[0]["slot"] > 127][:2]
    await append(world.store, histories)
    indices, index = world.elastic.client.indices, world.generation.index
    await indices.delete(index=index)
    low = {**BALANCE.mapping["properties"], "slot": {"type": "byte"}}
    aliases: dict[str, Any] = {world.generation.alias: {}}
    await indices.create(
        index=index, aliases=aliases, mappings={**BALANCE.mapping, "properties": low}
    )
    table = world.table()
    for history_ in histories:
        await table.apply(as_delivered(history_[:2]))
    assert len(world.lot) == 2
    said = [each for each in caplog.records if "Refused by" in each.getMessage()]
    assert [each.__dict__["correlation_ids"] for each in said] == [
        [event["correlation_id"] for event in history_[:2]] for history_ in histories
    ]
    assert all("refuses" in about["reason"] for about in world.lot.values())
    await indices.delete(index=index)
    await indices.create(index=index, aliases=aliases, mappings=BALANCE.mapping)
    for history_ in histories:
        await table.documents.replay(history_[0]["account_id"])
    assert not world.lot
    assert await world.documents(*histories) == [BALANCE.fold_all(h) for h in histories]
