"""A rebuild goes on by itself and ends exact, whatever dies in the midst of it."""

import asyncio
import random
import signal

import pytest

from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.servers import EmbeddedServers
from tests.agents.rebuild.bank import Bank, fill
from tests.harness import LONG_LANE, Role, eventually, rounds, some_of
from tests.load import Load

pytestmark = pytest.mark.timeout(rounds(300, 1500))

SLOW = "1500"
"""Events a second, so that there is a midst."""


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_a_killed_worker_is_gone_on_from(bank: Bank) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance, load = random.Random(seed), Load(bank.store)
    await bank.start("bank", "forwarder")
    slow = {"BANK_REBUILD_GRACE_SECONDS": "1", "BANK_REBUILD_RATE": SLOW}
    workers = [await bank.start("bank", "worker", **slow) for _ in range(2)]
    await fill(bank.store, 300, 10)
    await bank.becomes_exact()
    async with load.steady(100):
        for number in range(rounds(1, 10)):
            job = await bank.rebuild()
            await asyncio.sleep(chance.uniform(0.3, 4))
            victim = chance.choice(workers)
            await victim.kill(signal.SIGKILL)
            await victim.start()
            assert (await bank.over(job)).phase == "done"
            await eventually(lambda n=number: bank.is_single(n + 2), seconds=60)  # type: ignore[misc]
    await bank.becomes_exact()
    assert await bank.store.count() == load.acknowledged + 3000


@LONG_LANE
@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_workers_join_and_leave_in_the_midst(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    slow = {"BANK_REBUILD_GRACE_SECONDS": "1", "BANK_REBUILD_RATE": SLOW}
    first = await bank.start("bank", "worker", **slow)
    await fill(bank.store, 300, 10)
    await bank.becomes_exact()
    load = Load(bank.store)
    async with load.steady(100):
        job = await bank.reaches(await bank.rebuild(), "building")
        await bank.start("bank", "worker", **slow)
        await asyncio.sleep(2)
        assert await first.stop() == 0
        assert (await bank.over(job)).phase == "done"
        await eventually(lambda: bank.is_single(2), seconds=60)
    await bank.becomes_exact()


@LONG_LANE
@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_a_worker_asleep_through_a_whole_rebuild_changes_nothing(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    sleeper = await bank.worker()
    await eventually(lambda: sleeper.log().count("goes on after") >= 8)
    await bank.worker()
    await eventually(lambda: _shares(sleeper))
    load = Load(bank.store)
    await load.write(300)
    await bank.becomes_exact()
    async with load.steady(100):
        await sleeper.kill(signal.SIGSTOP)
        assert (await bank.over(await bank.rebuild())).phase == "done"
        await eventually(lambda: bank.is_single(2), seconds=60)
        await sleeper.kill(signal.SIGCONT)
        await eventually(lambda: "dropping them" in sleeper.log())
        await asyncio.sleep(2)
    assert await bank.is_single(2)
    await bank.becomes_exact()


def _shares(worker: Role) -> bool:
    """Whether it has its half of the partitions."""
    shares = [line for line in worker.log().splitlines() if "Has the partitions" in line]
    return bool(shares) and shares[-1].count(",") == 3


@pytest.mark.parametrize("server", some_of(SERVER_BINARIES, "elasticsearch"))
async def test_a_server_restarted_in_the_midst(
    own_servers: EmbeddedServers, own_bank: Bank, server: str
) -> None:
    bank = own_bank
    await bank.start("bank", "forwarder")
    slow = {"BANK_REBUILD_GRACE_SECONDS": "1", "BANK_REBUILD_RATE": SLOW}
    await bank.start("bank", "worker", **slow)
    await fill(bank.store, 300, 10)
    await bank.becomes_exact()
    load = Load(bank.store)
    async with load.steady(100):
        job = await bank.reaches(await bank.rebuild(), "building")
        await asyncio.sleep(random.uniform(0.2, 1.5))
        await own_servers.servers[server].kill()
        await asyncio.sleep(0.5)
        await own_servers.servers[server].start()
        ended = await bank.over(job)
        if ended.reason == "the index balance-2 was deleted":
            # The embedded server loses what it was told in its last second: somebody asks again.
            assert server == "elasticsearch"
            ended = await bank.over(await bank.rebuild())
        assert ended.phase == "done", ended
        await eventually(lambda: bank.is_single(2), seconds=60)
    await bank.becomes_exact()
