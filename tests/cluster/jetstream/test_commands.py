"""Commands that follow something, while the servers that lead it die."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest

from pipeline.coordination.partitioning import partitioning
from pipeline.coordination.repartition_requests import RepartitionRequests
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.support.settings import Settings
from tests.agents.test_parking import becomes_exact
from tests.cluster.nats import NatsCluster
from tests.fleet import Fleet
from tests.harness import Role, eventually
from tests.load import Load
from tests.names import STREAM

Start = Callable[..., Awaitable[Role]]


@pytest.mark.cluster
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dies", ["KV_bank", STREAM])
async def test_a_repartition_is_followed_over_the_death_of_a_leader(
    settings: Settings,
    three: NatsCluster,
    store: EventStore,
    role: Start,
    js: JetStream,
    dies: str,
) -> None:
    """It waits for a frozen worker when the leader dies, and is carried out after it."""
    fleet, load = Fleet(settings, role), Load(store)
    forwarder = await role("bank", "forwarder")
    await eventually(lambda: "Leading from" in forwarder.log())
    await fleet.join()
    await fleet.has(8)
    await load.write(50)
    await becomes_exact(settings, store)
    await fleet.workers["w1"].kill(signal.SIGSTOP)
    await load.write(50)
    command = await role("bank", "repartition", "4", "--patience", "120")
    await eventually(lambda: "Asked the leading forwarder" in command.log())
    victim = await three.leader(js, dies)
    await victim.kill()
    await eventually(lambda: asked(js))
    await fleet.workers["w1"].kill(signal.SIGCONT)
    assert await command.wait(120) == 0, command.log()
    assert "8 -> 4 partitions; the forwarder stood still for" in command.log()
    now = await partitioning(js)
    assert now is not None
    assert now.count == 4
    await becomes_exact(settings, store)
    await asyncio.gather(victim.start(), fleet.close())


async def asked(js: JetStream) -> bool:
    """Whether another server leads the bucket, and has the request."""
    last = await RepartitionRequests(js).last()
    return last is not None and last.open
