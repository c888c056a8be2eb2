"""Several workers under load: they come, go, die and stand still, and the projection is exact."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import redis.asyncio

from pipeline.eventstore import EventStore
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.fleet import Claims, Fleet, claims, watching
from tests.harness import LONG_LANE, Role, eventually, rounds
from tests.invariants import Acknowledged, invariants_hold
from tests.load import Load

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(rounds(300, 1500))]


@pytest.fixture
async def fleet(
    settings: Settings, store: EventStore, role: Callable[..., Awaitable[Role]]
) -> AsyncIterator[Fleet]:
    """A forwarder that leads, and no worker yet."""
    forwarder = await role("bank", "forwarder")
    await eventually(lambda: "Leading from" in forwarder.log())
    workers = Fleet(settings, role)
    yield workers
    await workers.close()


@pytest.fixture
def told(store: EventStore) -> Acknowledged:
    """What the load was told."""
    return Acknowledged(store)


async def ends_well(settings: Settings, store: EventStore, told: Acknowledged) -> None:
    """Wait until the projection is exact; then every invariant that can be judged holds."""
    url = settings.elasticsearch_url
    await eventually(lambda: exact(url, store), seconds=120, message="exact")
    await invariants_hold(settings)
    assert await told.is_stored()


@LONG_LANE
@pytest.mark.drill
async def test_partitions_move_under_load(
    settings: Settings, store: EventStore, told: Acknowledged, fleet: Fleet
) -> None:
    load = Load(told)
    await fleet.join()
    await fleet.has(8)
    async with load.steady(200), watching(fleet) as watched:
        await asyncio.sleep(1)
        await fleet.join(2)
        await fleet.has(3, 3, 2)
        await asyncio.sleep(1)
        left = await fleet.leave("w2")
        await fleet.has(4, 4)
        await asyncio.sleep(1)
        await fleet.join(2)
        await fleet.has(2, 2, 2, 2)
        await asyncio.sleep(1)
    print(f"longest without an owner {max(watched.longest):.2f} s in {watched.samples} looks")
    assert max(watched.longest) < settings.lease_seconds + 2
    assert "dropping them" not in left.log()
    await ends_well(settings, store, told)


@LONG_LANE
@pytest.mark.drill
async def test_a_killed_worker_is_replaced_under_load(
    settings: Settings, store: EventStore, told: Acknowledged, fleet: Fleet
) -> None:
    load = Load(told)
    await fleet.join(3)
    await fleet.has(3, 3, 2)
    async with load.steady(200), watching(fleet) as watched:
        await asyncio.sleep(1)
        await fleet.kill("w1")
        await fleet.has(4, 4)
    print(f"longest without an owner {max(watched.longest):.2f} s in {watched.samples} looks")
    assert max(watched.longest) < settings.lease_seconds + 2
    await ends_well(settings, store, told)


@pytest.mark.drill
async def test_owners_killed_and_frozen_past_their_leases_end_exact(
    settings: Settings, store: EventStore, told: Acknowledged, fleet: Fleet
) -> None:
    """A stale owner wakes under load: it moves no checkpoint, takes no message, changes nothing."""
    load, seed = Load(told), random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    await fleet.join(3)
    await fleet.has(3, 3, 2)
    frozen: dict[str, Role] = {}
    url = settings.elasticsearch_url
    async with load.steady(150), claims(url, settings.partitions) as noted:
        for number in range(rounds(2, 30)):
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            name = chance.choice(sorted(fleet.workers))
            if number % 2:
                await fleet.kill(name)
                await fleet.join()
            else:
                worker = fleet.workers.pop(name)
                await worker.kill(signal.SIGSTOP)
                await fleet.has(4, 4)
                await asyncio.sleep(chance.uniform(0, 1))
                await worker.kill(signal.SIGCONT)
                fleet.workers[name] = frozen[name] = worker
            await fleet.has(3, 3, 2)
        await eventually(lambda: _claimed(fleet, noted), message="claimed by the owners")
    await ends_well(settings, store, told)
    assert noted.fenced()
    for worker in frozen.values():
        assert (
            "longer than the leases" in worker.log()
            or "Other workers hold the leases" in worker.log()
        )


@LONG_LANE
@pytest.mark.drill
async def test_redis_forgets_all_under_load(
    settings: Settings, store: EventStore, told: Acknowledged, fleet: Fleet
) -> None:
    load = Load(told)
    await fleet.join(3)
    await fleet.has(3, 3, 2)
    before = await fleet.owners()
    async with load.steady(150), redis.asyncio.from_url(settings.redis_url) as client:
        for _ in range(rounds(1, 10)):
            await asyncio.sleep(0.7)
            await client.flushall()
        await eventually(lambda: _same(fleet, before), message="the same owners as before")
        await asyncio.sleep(settings.lease_seconds + 1)
        assert await fleet.owners() == before
    await ends_well(settings, store, told)
    assert all("dropping them" not in worker.log() for worker in fleet.workers.values())


async def _same(fleet: Fleet, before: list[str | None]) -> bool:
    return await fleet.owners() == before


async def _claimed(fleet: Fleet, noted: Claims) -> bool:
    return noted.owners() == dict(enumerate(await fleet.owners()))
