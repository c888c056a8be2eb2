"""Another number of partitions in the midst of a rebuild: it ends, and the bank is exact."""

from dataclasses import replace

import pytest

from pipeline.cli.repartition import ask
from tests.agents.rebuild.bank import Bank, fill
from tests.harness import eventually
from tests.load import Load

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(300)]


@pytest.mark.drill
async def test_a_repartition_ends_a_rebuild_and_the_next_one_completes(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    stalled = await bank.stalled_worker()
    await bank.worker()
    await fill(bank.store, 200, 10)
    await bank.becomes_exact()
    load = Load(bank.store)
    async with load.steady(50):
        job = await bank.replaying(await bank.rebuild())
        assert (await ask(bank.settings, 6, 60)).startswith("8 -> 6 partitions")
        failed = await bank.over(job)
        assert (failed.phase, failed.reason) == ("failed", "the bank has 6 partitions now")
        await load.more(50)
        again, joined = await bank.jobs.start("online", range(6), 6)
        assert not joined
        assert await stalled.stop() == 0
        assert (await bank.over(again)).phase == "done"
    await bank.becomes_exact()
    await eventually(lambda: bank.is_single(2), seconds=60)


@pytest.mark.drill
async def test_a_rebuild_that_readers_see_already_is_done_whatever_the_number(bank: Bank) -> None:
    """The number changed between the swap and the last partition's turn."""
    await bank.start("bank", "forwarder")
    for _ in range(2):
        await bank.worker()
    await fill(bank.store, 200, 10)
    await bank.becomes_exact()
    done = await bank.over(await bank.rebuild())
    assert done.phase == "done"
    swapped = replace(done, phase="swapped", of=4, swapped="2026-01-01T00:00:00Z", dropped=False)
    await bank.jobs.change(done.id, lambda job: replace(swapped, revision=job.revision))
    assert (await bank.over(done)).phase == "done"
    await eventually(lambda: bank.is_single(2), seconds=60)
