"""Appliers before and after a repartition, side by side: who goes on where, and who lets it be."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import pytest

from pipeline.agents.projection_runner import ProjectionRunner
from pipeline.banking.balance import BALANCE
from pipeline.coordination.consumer_progress import last_sequences
from pipeline.coordination.partitioning import Partitioning
from pipeline.model.events import partition_of
from pipeline.search import ConditionalWrite, Elastic, Generation
from pipeline.support.settings import Settings
from pipeline.tables.checkpoint import Checkpoint, checkpoint_id, checkpoint_of
from pipeline.tables.checkpoints import PositionLost
from tests.agents.world import World, in_order, more, world_on
from tests.bank import StreamSource, accounts, append, publish
from tests.harness import eventually
from tests.names import ALIAS, STREAM

pytestmark = pytest.mark.elasticsearch

FOUR = Partitioning(4)


@dataclass
class Worker:
    """A projection runner with every partition of its partitioning."""

    runner: ProjectionRunner
    source: StreamSource

    def idle(self) -> bool:
        return all(processor.idle for processor in self.runner.processors.values())


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    opened = await world_on(settings)
    yield opened
    await opened.js.close()
    await opened.store.close()


@asynccontextmanager
async def working(world: World, now: Partitioning, name: str) -> AsyncIterator[Worker]:
    source = StreamSource(world.js, {})
    runner = ProjectionRunner(
        world.settings,
        store=world.store,
        js=world.js,
        source=source,
        partitioning=now,
        owner=name,
        projection=BALANCE,
        watch_seconds=0.3,
    )
    source.runner = runner
    async with runner:
        for partition in range(now.count):
            runner.acquire(partition)
        worker = Worker(runner, source)
        await eventually(worker.idle, seconds=60)
        yield worker
        await source.close()


async def switched(world: World, now: Partitioning, count: int) -> Partitioning:
    """As the forwarder does it once all is drained."""
    state = await world.js.state(STREAM)
    assert state is not None
    after = now.followed_by(count, state.last + 1, await last_sequences(world.js, now))
    await world.js.publish_batch([after.message()], state.last)
    return after


async def claim_of(world: World, partition: int, of: int) -> Checkpoint | None:
    elastic = Elastic(world.settings.elasticsearch_url)
    key = checkpoint_id(Generation(1, "", BALANCE), partition, of)
    found = (await elastic.mget(ALIAS, [key])).get(key)
    await elastic.close()
    return checkpoint_of(found)


async def claimed(world: World, now: Partitioning) -> bool:
    """Whether each partition's checkpoint claims all that it ever got."""
    last = await last_sequences(world.js, now)
    claims = [await claim_of(world, partition, now.count) for partition in range(now.count)]
    return all(c and (c.sequence or 0) >= end for c, end in zip(claims, last, strict=True))


async def test_new_partitions_begin_where_those_before_them_ended(world: World) -> None:
    histories, now = accounts(60, 3), FOUR
    async with working(world, FOUR, "first"):
        await world.happen(histories)
        await eventually(lambda: claimed(world, FOUR))
        assert await world.exact()
    for count in (8, 6, 1, 3):
        now = await switched(world, now, count)
        added = more(histories)
        await append(world.store, added)
        async with working(world, now, f"of {count}") as worker:
            assert worker.runner.counters.backfilled == 0
            assert worker.source.floors == dict.fromkeys(range(count), now.at)
            await publish(world.js, in_order(added), count)
            await eventually(lambda n=now: claimed(world, n))  # type: ignore[misc]
            assert await world.exact()
            assert worker.runner.counters.applied == 180, "nothing was read again"
            assert worker.runner.counters.duplicates == 0


async def test_who_believes_the_old_number_applies_but_claims_nothing_anew(world: World) -> None:
    """Both work at a time, as for a moment after a switch: each event comes to the one or both."""
    histories = accounts(60, 3)
    async with working(world, FOUR, "old") as old:
        await world.happen(histories)
        await eventually(lambda: claimed(world, FOUR))
        now = await switched(world, FOUR, 8)
        async with working(world, now, "new") as new:
            added = more(histories)
            await append(world.store, added)
            await publish(world.js, in_order(added), 8)
            await eventually(world.exact)
            await eventually(lambda: claimed(world, now))
            assert new.runner.counters.backfilled == 0
            before = await claim_of(world, 0, 4)
            old.runner.processors[0].reacquire(PositionLost("for the test"))
            reacquired = old.runner.counters.reacquired
            await eventually(lambda: old.runner.counters.reacquired > reacquired + 1)
            assert old.runner.processors[0].owned is None
            assert await claim_of(world, 0, 4) == before
            assert before is not None
            assert before.epoch == 1
    assert await world.exact()


async def test_what_elasticsearch_lost_of_the_old_partitions_is_synchronised(world: World) -> None:
    """The claim of 0 of 4 went back: 0 and 1 of 8 read the store, the others do not."""
    histories = accounts(60, 3)
    async with working(world, FOUR, "first"):
        await world.happen(histories)
        await eventually(lambda: claimed(world, FOUR))
    now = await switched(world, FOUR, 8)
    claim = await claim_of(world, 0, 4)
    assert claim is not None
    elastic = Elastic(world.settings.elasticsearch_url)
    found = (await elastic.mget(ALIAS, [claim.id]))[claim.id]
    old = {**asdict(claim), "sequence": now.last[0] - 1, "applied": now.last[0] - 1}
    assert (await elastic.compare_and_set(ALIAS, [ConditionalWrite(claim.id, found.stamp, old)]))[0]
    lost = next(each[0] for each in histories if partition_of(each[0]["slot"], 4) == 0)
    await world.curl("DELETE", f"/balance/_doc/{lost['account_id']}")
    await elastic.close()
    async with working(world, now, "second") as second:
        assert second.runner.counters.backfilled == 2
        assert await world.exact()
