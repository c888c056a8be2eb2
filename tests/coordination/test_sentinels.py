"""Redis behind three sentinels: whoever is the primary is found without a hand."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.coordination.leases import FORWARDER, Lease, LeaseUnavailable
from pipeline.coordination.partition_leases import PartitionLeases
from pipeline.coordination.worker_registry import RegistryReader
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.cluster.redis import Sentinels, sentinels
from tests.harness import eventually, rounds
from tests.invariants import invariants_hold
from tests.outages import Bank

log = logging.getLogger(__name__)

PARTITIONS = 4


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Sentinels]:
    async with sentinels(tmp_path / "redis") as made:
        yield made


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, None])
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


async def test_without_a_primary_the_reason_is_told(three: Sentinels) -> None:
    url = three.url.replace("/bank", "/another")
    lease = Lease(url, "test", "ours", 2.0)
    with pytest.raises(LeaseUnavailable, match="No master found for 'another'"):
        await lease.acquire()
    await lease.close()


@pytest.mark.drill
@pytest.mark.timeout(rounds(240, 900))
async def test_a_bank_goes_on_after_a_failover(three: Sentinels, settings: Settings) -> None:
    """Within two leases; the old primary comes back as a replica."""
    told = settings.model_copy(update={"redis_url": three.url})
    async with Bank(told) as bank:
        async with bank.load.steady(50):
            old = await three.fail_over()
            began = time.monotonic()
            reader = RegistryReader(told.redis, "reader", settings.lease_seconds)

            async def held() -> bool:
                owners = (await reader.read(settings.partitions)).owners
                return None not in owners and await reader.holder(FORWARDER) is not None

            await eventually(held)
            assert time.monotonic() - began < 2 * settings.lease_seconds
            await eventually(lambda: "works again" in bank.workers["w1"].log())
            three.restart(old)
            await bank.load.more(100)
        await eventually(lambda: exact(settings.elasticsearch_url, bank.store), seconds=60)
        await reader.close()
    await invariants_hold(settings)
