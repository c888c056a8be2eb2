"""The index that is being built is in trouble: nobody is parked, and the rebuild ends."""

import pytest

from tests.agents.rebuild.bank import Bank, fill
from tests.harness import eventually
from tests.load import Load

pytestmark = pytest.mark.elasticsearch


@pytest.mark.parametrize("ends", ["done", pytest.param("cancelled", marks=pytest.mark.drill)])
async def test_the_generation_being_built_is_blocked_for_a_while(bank: Bank, ends: str) -> None:
    await bank.start("bank", "forwarder")
    workers = [await bank.stalled_worker(), await bank.worker()]
    await fill(bank.store, 100, 6)
    await bank.becomes_exact()
    indices = bank.elastic.client.indices
    load = Load(bank.store)
    async with load.steady(50):
        job = await bank.replaying(await bank.rebuild())
        await indices.close(index="balance-2")
        await indices.put_settings(index="balance-2", settings={"index.blocks.write": True})
        if ends == "cancelled":
            await bank.jobs.cancel(job.id)
            await eventually(lambda: bank.is_single(1), message="the new one is gone")
        else:
            await indices.put_settings(index="balance-2", settings={"index.blocks.write": None})
            await indices.open(index="balance-2")
            assert await workers[0].stop() == 0
        assert (await bank.over(job)).phase == ends
    await bank.becomes_exact()
    assert all("is parked" not in worker.log() for worker in workers)
