"""Redis behind three sentinels: whoever is the primary is found without a hand."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import redis.asyncio

from pipeline.coordination.leases import FORWARDER, Lease, LeaseUnavailable
from pipeline.coordination.partition_leases import PartitionLeases
from pipeline.coordination.worker_registry import RegistryReader
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.cluster.redis import Sentinels, sentinels
from tests.harness import eventually
from tests.invariants import invariants_hold
from tests.load import Load
from tests.outages import Bank
from tests.waits import measured

log = logging.getLogger(__name__)

PARTITIONS = 4
IN_CLUSTER = pytest.mark.cluster


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Sentinels]:
    async with sentinels(tmp_path / "redis") as made:
        yield made


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGSTOP, marks=IN_CLUSTER),
        pytest.param(None, marks=IN_CLUSTER),
    ],
)
async def test_leases_go_on_with_the_new_primary(
    three: Sentinels, number: signal.Signals | None
) -> None:
    lease = Lease(three.url, "test", "ours", 2.0)
    leases = PartitionLeases(three.url, "w.1", 2.0)
    assert await lease.acquire()
    assert await leases.acquire(PARTITIONS, [1, 2]) == {1, 2}
    await three.fail_over(number)
    outage = Outage(log, "test")
    assert await outage.retry_forever(lease.acquire, LeaseUnavailable)
    view = await outage.retry_forever(lambda: leases.beat(PARTITIONS, [1, 2]), LeaseUnavailable)
    assert view.of("w.1") == {1, 2}
    await lease.release()
    await asyncio.gather(lease.close(), leases.close())


@IN_CLUSTER
async def test_a_sentinel_that_hangs_and_one_that_is_gone(three: Sentinels) -> None:
    """The first two in the URL; the third one answers."""
    hanging, gone, _ = three.sentinels.values()
    gone.kill()
    await hanging.pause()
    lease = Lease(three.url, "test", "ours", 2.0)
    assert await lease.acquire()
    began = time.monotonic()
    assert await lease.renew()
    assert time.monotonic() - began < lease.timeout  # it asks no sentinel again
    await lease.close()


@IN_CLUSTER
async def test_without_a_primary_the_reason_is_told(three: Sentinels) -> None:
    url = three.url.replace("/bank", "/another")
    lease = Lease(url, "test", "ours", 2.0)
    with pytest.raises(LeaseUnavailable, match="No master found for 'another'"):
        await lease.acquire()
    await lease.close()


async def by_another_sentinel(three: Sentinels) -> int:
    """The first sentinel is gone, and every connection to the primary: all have to ask the others.

    Returns the port of the primary.
    """
    next(iter(three.sentinels.values())).kill()
    port = await three.primary()
    async with redis.asyncio.Redis(port=port) as client:
        await client.client_kill_filter(_type="normal")
    return port


FAULTS: Final[dict[str, Callable[[Sentinels], Awaitable[int]]]] = {
    "killed": Sentinels.fail_over,
    "frozen": lambda three: three.fail_over(signal.SIGSTOP),
    "by hand": lambda three: three.fail_over(None),
    "sentinel killed": by_another_sentinel,
}


@IN_CLUSTER
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_bank_goes_on_after_a_failover(
    three: Sentinels, settings: Settings, fault: str, record_property: Callable[[str, object], None]
) -> None:
    """All leases are renewed, and events wait for none of them. The old primary comes back as a
    replica. How long that took is recorded: it is no measure of the bank on a busy machine."""
    told = settings.model_copy(update={"redis_url": three.url})
    url = settings.elasticsearch_url
    reader = RegistryReader(told.redis, "reader", settings.lease_seconds)
    async with Bank(told) as bank:
        async with measured(url, bank.store) as waits:
            load = Load(waits)
            async with load.steady(50):
                await load.more(100)
                waits.begin()
                began, wall = time.monotonic(), time.time()
                old = await FAULTS[fault](three)
                elected = time.monotonic()
                renewed = partial(all_renewed, reader, settings.partitions, 1000 * wall)
                await eventually(renewed, message="all leases are renewed")
                held = time.monotonic()
                await load.more(100)
                three.servers[old].kill(signal.SIGCONT)
                for port, process in three.all.items():
                    if process.exit_code is not None:
                        three.restart(port)
                await eventually(three.whole, seconds=180, message="the old primary is a replica")
                await load.more(100)
                await eventually(partial(all_renewed, reader, settings.partitions, 1000 * wall))
            await eventually(lambda: exact(url, bank.store), seconds=180)
        figures = {"elected": elected - began, "held": held - began, "longest": waits.longest}
        for name, seconds in figures.items():
            record_property(name, f"{seconds:.1f}")
        print(fault, {name: f"{seconds:.1f} s" for name, seconds in figures.items()})
    await reader.close()
    await invariants_hold(settings)


async def all_renewed(reader: RegistryReader, partitions: int, since: float) -> bool:
    """Whether every partition and the log has an owner, and each worker has renewed its leases
    since then, in milliseconds of the clock."""
    owners = (await reader.read(partitions)).owners
    beats = (await reader.registry()).beats
    led = await reader.holder(FORWARDER)
    return led is not None and None not in owners and min(beats.values()) > since
