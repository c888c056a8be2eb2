"""The harness itself: servers are there, wiped for each test, and roles are processes."""

import nats
import pytest
import redis.asyncio
from elasticsearch import AsyncElasticsearch

from pipeline.support.settings import Settings
from tests.gaps import Gap, longest_gap
from tests.harness import Role, eventually
from tests.ports import free_port


@pytest.mark.elasticsearch
@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_finds_empty_servers(settings: Settings, turn: int) -> None:
    client = await nats.connect(settings.nats_url)
    js = client.jetstream()
    assert await js.streams_info() == []
    await js.add_stream(name="balance", subjects=["balance.*"])
    await js.create_key_value(bucket="partitions")
    await client.close()
    async with redis.asyncio.from_url(settings.redis_url) as leases:
        assert await leases.dbsize() == 0
        await leases.set("forwarder", turn)
    async with AsyncElasticsearch(settings.elasticsearch_url) as index:
        assert not await index.indices.exists(index="balance")
        await index.indices.create(index="balance-1", aliases={"balance": {}})
        await index.indices.create(index="bank-checkpoints")


async def test_a_role_is_a_process_with_the_settings(settings: Settings) -> None:
    program = "import os; print(os.environ['BANK_MONGODB_DATABASE']); input()"
    async with Role(settings, "python", "-c", program) as role:
        assert await role.wait() == 1  # there is nothing on stdin
        assert settings.mongodb_database in role.log()
        await role.start()
        await eventually(lambda: role.log().count(settings.mongodb_database) == 2)


async def test_no_two_processes_give_out_a_port(settings: Settings) -> None:
    draw = "print(*{free_port() for _ in range(500)}, flush=True)"
    program = f"from tests.ports import free_port; {draw}; import time; time.sleep(60)"
    async with Role(settings, "python", "-c", program) as other:
        theirs = await eventually(lambda: {*map(int, other.log().split())})
        assert theirs.isdisjoint(free_port() for _ in range(500))


async def test_eventually_tells_the_last_value() -> None:
    with pytest.raises(AssertionError, match="last: 0"):
        await eventually(lambda: 0, seconds=0)


def test_the_longest_gap_ends_with_something_new() -> None:
    assert longest_gap([0.5, 1.5, 4.0, 5.0, 99.0], since=1.0, until=50.0) == Gap(1.5, 4.0)
    assert longest_gap([2.0], since=1.0).seconds == 1.0
    with pytest.raises(ValueError, match="empty"):
        longest_gap([0.5], since=1.0)
