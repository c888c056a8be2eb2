"""Workers through repartitions under load: alive, asleep, killed. The projection is exact."""

import asyncio
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pipeline.cli.repartition import ask
from pipeline.coordination.partitioning import partitioning
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.fleet import Fleet, claims
from tests.forwarder.test_repartitioner import once_and_in_order
from tests.harness import LONG_LANE, Role, eventually, rounds
from tests.load import Load
from tests.waits import Waits, measured

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(rounds(300, 1500))]

Start = Callable[..., Awaitable[Role]]
SYNCHRONISES = "backfilling from the event store"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"partitions": 4})


@pytest.fixture
async def waits(settings: Settings, store: EventStore) -> AsyncIterator[Waits]:
    async with measured(settings.elasticsearch_url, store) as waits:
        yield waits


@pytest.fixture
async def forwarder(store: EventStore, role: Start) -> Role:
    """One that leads."""
    forwarder = await role("bank", "forwarder")
    await eventually(lambda: "Leading from" in forwarder.log())
    return forwarder


@pytest.fixture
async def fleet(settings: Settings, forwarder: Role, role: Start) -> AsyncIterator[Fleet]:
    """No worker yet."""
    workers = Fleet(settings, role)
    yield workers
    await workers.close()


async def repartition(fleet: Fleet, number: int) -> str:
    """What the command tells; afterwards the fleet is looked at with that number."""
    told = await ask(fleet.settings, number, 60)
    fleet.partitions = number
    return told


async def becomes_exact(settings: Settings, store: EventStore) -> None:
    await eventually(lambda: exact(settings.elasticsearch_url, store), seconds=120, message="exact")


def backfills(fleet: Fleet) -> int:
    return sum(worker.log().count(SYNCHRONISES) for worker in fleet.workers.values())


@pytest.mark.drill
async def test_repartitioned_under_load(
    settings: Settings,
    store: EventStore,
    js: JetStream,
    fleet: Fleet,
    role: Start,
    waits: Waits,
) -> None:
    load = Load(waits)
    await fleet.join(3)
    await fleet.has(2, 1, 1)
    async with load.steady(150):
        await load.more(300)
        await eventually(lambda: waits.seen > 200, message="applied")
        first = backfills(fleet)
        waits.begin()
        for number, shares in ((8, (3, 3, 2)), (6, (2, 2, 2))):
            told = await repartition(fleet, number)
            await fleet.has(*shares)
            await load.more(50)
            done = time.monotonic()
            await eventually(lambda t=done: waits.oldest() > t, message="the backlog is done")  # type: ignore[misc]
            print(
                f"{told}; the longest that an event of {waits.seen} waited: {waits.longest:.2f} s"
            )
            waits.begin()
    await becomes_exact(settings, store)
    assert await once_and_in_order(store, js)
    assert await store.count() == load.acknowledged
    assert backfills(fleet) == first, "each began where those before it ended"
    verified = await role("bank", "verify")
    assert await verified.wait() == 0, verified.log()


@LONG_LANE
@pytest.mark.drill
async def test_a_worker_that_slept_through_it_changes_nothing(
    settings: Settings, store: EventStore, js: JetStream, fleet: Fleet
) -> None:
    """It wakes in a bank with as many partitions as it knew, which are other ones."""
    load, url = Load(store), settings.elasticsearch_url
    await fleet.join(3)
    await fleet.has(2, 1, 1)
    sleeper = fleet.workers.pop("w1")
    async with load.steady(150), claims(url, 4) as four, claims(url, 8) as eight:
        await load.more(100)
        await sleeper.kill(signal.SIGSTOP)
        for number, shares in ((8, (4, 4)), (4, (2, 2))):
            print(await repartition(fleet, number))
            await fleet.has(*shares)
            await load.more(100)
        before = await partitioning(js)
        await sleeper.kill(signal.SIGCONT)
        fleet.workers["w1"] = sleeper
        await fleet.has(2, 1, 1)
        await load.more(100)
    assert four.fenced()
    assert eight.fenced()
    assert await partitioning(js) == before
    await becomes_exact(settings, store)
    assert await once_and_in_order(store, js)
    assert re.search("4 -> 4 partitions after .*starting again", sleeper.log()), sleeper.log()


@LONG_LANE
@pytest.mark.drill
async def test_workers_and_forwarders_killed_in_the_middle(
    settings: Settings,
    store: EventStore,
    js: JetStream,
    fleet: Fleet,
    role: Start,
    forwarder: Role,
) -> None:
    load, seed = Load(store), random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    forwarders = [forwarder, await role("bank", "forwarder")]
    await fleet.join(2)
    await fleet.has(2, 2)
    async with load.steady(150):
        for number in [8, 6, 3, 12, 4, 8, 5, 16, 2, 4][: rounds(2, 10)]:
            asked = asyncio.create_task(repartition(fleet, number))
            await asyncio.sleep(chance.uniform(0, 1.5))
            await fleet.kill(chance.choice(sorted(fleet.workers)))
            if chance.random() < 0.5:
                dead = chance.choice(forwarders)
                await dead.kill()
                await dead.start()
            await fleet.join()
            print(await asked)
            await fleet.has(number - number // 2, number // 2)
            await load.more(50)
    await becomes_exact(settings, store)
    assert await once_and_in_order(store, js)
    assert await store.count() == load.acknowledged
