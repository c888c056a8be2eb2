"""A list of servers in the URL: roles start while the first one is down, and outlive any one."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pipeline.eventstore import EventStore
from pipeline.support.settings import Settings
from tests.agents.test_parking import becomes_exact
from tests.cluster.nats import NatsCluster
from tests.harness import Role, eventually
from tests.load import Load

Start = Callable[..., Awaitable[Role]]


@pytest.fixture
def settings(settings: Settings, three: NatsCluster, scratch: Path) -> Settings:
    servers = ",".join(each.url for each in three.servers.values())
    return settings.model_copy(update={"nats_url": servers})


@pytest.mark.cluster
@pytest.mark.timeout(900)
async def test_a_bank_starts_without_the_first_one_and_outlives_each(
    settings: Settings, three: NatsCluster, store: EventStore, role: Start
) -> None:
    first, *others = three.servers.values()
    load = Load(store)
    await first.kill()
    one = await role("bank", "forwarder")
    await role("bank", "worker")
    await eventually(lambda: "Leading from" in one.log(), seconds=180)
    await load.write(50)
    await becomes_exact(settings, store)
    await first.start()
    await eventually(lambda: up_to_date(role), seconds=180)
    for server in others:
        async with load.steady(50):
            await server.kill()
            await load.more(50)
        await becomes_exact(settings, store)
        await server.start()
        await eventually(lambda: up_to_date(role), seconds=180)


async def up_to_date(role: Start) -> bool:
    command = await role("bank", "replicas")
    return await command.wait(180) == 0
