"""Partitions, projections and generations share their bulks, and each waits for its own writes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import orjson
import pytest

from pipeline.agents.apply import write_events
from pipeline.agents.context import OwnedPartition, generation_target
from pipeline.agents.projection_runner import ProjectionRunner
from pipeline.banking.balance import BALANCE
from pipeline.banking.statement import STATEMENT
from pipeline.coordination.partitioning import Partitioning
from pipeline.model.events import Event, partition_of, slot_of
from pipeline.model.projection import Projection
from pipeline.search import Generation, SharedClient, connect, group_commit
from pipeline.support.settings import Settings
from tests.agents.world import World, in_order, more, world_on
from tests.bank import PARTITIONS, StreamSource, accounts, append, exact, publish
from tests.harness import eventually
from tests.names import ALIAS, STREAM
from tests.proxy import Forward, Held, HttpProxy, Reply, Request, writes_to
from tests.proxy.bulk import Item, ItemError, ItemErrors, is_bulk, items_of

pytestmark = pytest.mark.elasticsearch

BUSY = ItemError(429, "es_rejected_execution_exception", "busy")


@dataclass
class Bank:
    """A worker with two projections, whose requests pass a proxy; the bulks that it has sent."""

    world: World
    proxy: HttpProxy
    shared: SharedClient
    runners: list[ProjectionRunner] = field(default_factory=list)
    bulks: list[list[Item]] = field(default_factory=list)

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        if is_bulk(request):
            self.bulks.append(items_of(request))
        return await forward(request)

    async def happens(self, histories: list[list[Event]]) -> None:
        await append(self.world.store, histories)
        await publish(self.world.js, in_order(histories))

    async def ends_well(self) -> None:
        url, store = self.world.settings.elasticsearch_url, self.world.store
        for projection in (BALANCE, STATEMENT):
            await eventually(partial(exact, url, store, projection), seconds=60)


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Bank]:
    async with HttpProxy(settings.elasticsearch_url) as proxy:
        world = await world_on(settings)
        shared = SharedClient(connect(proxy.url))
        opened = Bank(world, proxy, shared)
        proxy.faults.append(opened)
        async with working(opened, BALANCE), working(opened, STATEMENT):
            yield opened
        await shared.close()
        await world.js.close()
        await world.store.close()


@asynccontextmanager
async def working(bank: Bank, projection: Projection) -> AsyncIterator[None]:
    source = StreamSource(bank.world.js, {})
    runner = ProjectionRunner(
        bank.world.settings,
        store=bank.world.store,
        js=bank.world.js,
        source=source,
        partitioning=Partitioning(PARTITIONS),
        owner="worker",
        projection=projection,
        shared=bank.shared,
    )
    source.runner = runner
    async with runner:
        bank.runners.append(runner)
        for partition in range(PARTITIONS):
            runner.acquire(partition)
        await eventually(lambda: idle(runner), seconds=60)
        yield
        await source.close()


def idle(runner: ProjectionRunner) -> bool:
    return all(processor.idle for processor in runner.processors.values())


def sequences(bank: Bank, projection: str) -> dict[int, int]:
    """The last checkpoint that was sent of each partition."""
    documents = [
        orjson.loads(item.lines.splitlines()[1])
        for bulk in bank.bulks
        for item in bulk
        if item.index == ALIAS and item.id.startswith(projection)
    ]
    return {each["partition"]: each["sequence"] for each in documents}


def waiting(bank: Bank, index: str) -> int:
    """How many requests that write the index wait to be joined: one of each partition."""
    return sum(index.encode() in each.body for each in bank.shared._documents._waiting)


def partition(account_id: str) -> int:
    return partition_of(slot_of(account_id), PARTITIONS)


async def test_partitions_and_projections_go_in_one_bulk(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "SLOW_SECONDS", 60)
    histories = accounts(40, 2)
    held = Held(writes_to("balance-g"))
    with bank.proxy.faulty(held):
        await bank.happens(histories[:1])
        await held.caught()  # while it is under way, the others gather
        await bank.happens(histories[1:])
        await eventually(lambda: waiting(bank, "balance-g1") > 1 and waiting(bank, "statement-g1"))
        await held.release()
        await bank.ends_well()
    together = max(bank.bulks, key=len)
    assert {item.index for item in together} == {"balance-g1", "statement-g1"}
    assert len({partition(item.id) for item in together if item.index == "balance-g1"}) > 1


async def test_no_checkpoint_is_written_beside_a_refused_item(bank: Bank) -> None:
    histories = accounts(40, 3)
    ill = histories[0][0]["account_id"]
    its = partition(ill)
    refused = ItemErrors(lambda item: BUSY if item.id == ill else None)
    await bank.happens(histories)
    await bank.ends_well()
    state = await bank.world.js.state(STREAM)
    assert state is not None
    end = state.last  # no checkpoint of before is above it
    with bank.proxy.faulty(refused):
        await bank.happens(more(histories))
        others = {partition(events[0]["account_id"]) for events in histories} - {its}
        await eventually(
            lambda: all(sequences(bank, "balance").get(p, 0) > end for p in others), seconds=60
        )
        await eventually(lambda: refused.count > 2)
        await eventually(lambda: sequences(bank, "statement").get(its, 0) > end)
        assert sequences(bank, "balance").get(its, 0) <= end
    await bank.ends_well()
    await eventually(lambda: sequences(bank, "balance")[its] > end)


async def test_the_generation_being_built_is_written_before_the_live_one(bank: Bank) -> None:
    context = bank.runners[0].context
    live = await context.generations.ensure_live()
    await context.generations.create(2)
    building = Generation(2, "", BALANCE)
    owned = OwnedPartition(
        generation_target(context, live), "", 1, 0, 0, generation_target(context, building, 1024)
    )
    events = in_order(accounts(5, 2))
    held = Held(writes_to("balance-g2"), after=True)
    with bank.proxy.faulty(held):
        writing = asyncio.create_task(write_events(context, owned, events))
        await held.caught()
        assert not written(bank, lambda item: item.index == "balance-g1")
        await held.release()
        await writing
    assert len(written(bank, lambda item: item.index == "balance-g1")) == 5


def written(bank: Bank, wanted: Callable[[Item], bool]) -> list[Item]:
    return [item for bulk in bank.bulks for item in bulk if wanted(item)]
