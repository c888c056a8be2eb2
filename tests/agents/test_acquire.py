"""Where an acquired partition reads on when its source can't stand where it is asked to."""

from collections.abc import AsyncIterator

import pytest

from pipeline.agents.acquire import acquire
from pipeline.agents.projection_runner import ProjectionRunner
from pipeline.support.settings import Settings
from tests.agents.world import World, in_order, more, world_on
from tests.bank import PARTITIONS, StreamSource, accounts, append, publish
from tests.harness import eventually

pytestmark = pytest.mark.elasticsearch

LOWER = 3


class EarlierSource(StreamSource):
    """Stands lower than it is asked to, as a consumer of a stream that has lost its end."""

    async def seek(self, partition: int, sequence: int | None, acquisition: int) -> int:
        lower = None if sequence is None else max(0, sequence - LOWER)
        return await super().seek(partition, lower, acquisition)


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    opened = await world_on(settings)
    yield opened
    await opened.js.close()
    await opened.store.close()


@pytest.fixture
async def second(world: World) -> AsyncIterator[ProjectionRunner]:
    """A worker whose partitions were acked up to the end, with checkpoints from before that: so it
    seeks a second time."""
    histories = accounts(40)
    await world.start("first")
    await world.happen(histories)
    await world.settled()
    await world.stop()
    added = more(histories)
    await append(world.store, added)
    await publish(world.js, in_order(added))
    state = await world.js.state("balance")
    assert state is not None
    world.floors.update(dict.fromkeys(range(PARTITIONS), state.last))
    world.source = EarlierSource(world.js, world.floors)
    runner = world.runner = world.worker(world.source, "second")
    world.source.runner = runner
    async with runner:
        yield runner
        await world.source.close()


async def test_the_position_is_where_the_source_stands_after_the_second_seek(
    second: ProjectionRunner, world: World
) -> None:
    last = max(world.floors.values())
    for partition in range(PARTITIONS):
        owned, needs_backfill = await acquire(second.context, partition, 1)
        assert not needs_backfill
        assert owned.position == world.floors[partition] < last
        assert owned.applied <= owned.position


async def test_what_comes_again_is_skipped_and_the_rest_applied(
    second: ProjectionRunner, world: World
) -> None:
    for partition in range(PARTITIONS):
        second.acquire(partition)
    await eventually(world.acked, seconds=60)
    await eventually(world.exact, seconds=60)
    assert second.counters.backfilled == 0
    assert 0 < second.counters.duplicates <= LOWER * PARTITIONS
