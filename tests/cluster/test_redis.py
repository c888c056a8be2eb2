"""A bank whose Redis has a replica and three sentinels goes on after a failover, without a hand."""

import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.coordination.leases import FORWARDER
from pipeline.coordination.worker_registry import RegistryReader
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.cluster.redis import Sentinels, sentinels
from tests.harness import eventually
from tests.invariants import invariants_hold
from tests.outages import Bank

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Sentinels]:
    async with sentinels(tmp_path / "redis") as made:
        yield made


async def test_a_bank_goes_on_and_says_what_is_wrong(three: Sentinels, settings: Settings) -> None:
    """All servers hang, then no sentinel has a primary; later the primary dies."""
    told = settings.model_copy(update={"redis_url": three.url})
    async with Bank(told) as bank:
        worker = bank.workers["w1"]
        async with bank.load.steady(50):
            for server in three.servers.values():
                server.kill(signal.SIGSTOP)
            await eventually(lambda: "still down, " in worker.log(), seconds=180)
            assert "No master found for 'bank'" in worker.log()
            for server in three.servers.values():
                server.kill(signal.SIGCONT)
            await eventually(lambda: worker.log().count("works again") == 1, seconds=180)
            await three.fail_over()
            began = time.monotonic()
            reader = RegistryReader(told.redis, "reader", settings.lease_seconds)

            async def held() -> bool:
                owners = (await reader.read(settings.partitions)).owners
                return None not in owners and await reader.holder(FORWARDER) is not None

            await eventually(held)
            assert time.monotonic() - began < 2 * settings.lease_seconds
            await bank.load.more(50)
        await eventually(lambda: exact(settings.elasticsearch_url, bank.store), seconds=180)
        await reader.close()
    await invariants_hold(settings)
