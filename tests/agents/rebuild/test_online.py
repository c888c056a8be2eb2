"""Rebuilding online: into the next generation, under live traffic, never shown half built."""

import statistics

import pytest

from tests.agents.rebuild.bank import Bank, fill
from tests.agents.rebuild.readers import reading
from tests.harness import eventually, rounds
from tests.load import Load

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(rounds(300, 1500))]


async def test_readers_never_see_a_rebuild(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    workers = [await bank.worker(), await bank.worker()]
    balances = await bank.start("python", "-m", "api.balances")
    await fill(bank.store, rounds(300, 2_000), rounds(20, 50))
    load = Load(bank.store)
    await load.write(100)
    await bank.becomes_exact()
    await eventually(lambda: "listening on" in balances.log())
    url = f"http://127.0.0.1:{bank.settings.balances_port}"
    acquired = sum(worker.log().count("goes on after") for worker in workers)
    async with load.steady(150), reading(url) as readers:
        await eventually(lambda: len(readers.pages) >= 300)
        job = await bank.over(await bank.rebuild())
        await eventually(lambda: bank.is_single(2), message="the old one is dropped")
    assert job.phase == "done"
    parts = bank.jobs.parts(job)
    pauses = [pause for part in parts for pause in part.pauses_ms]
    print(f"{readers.answers} answers; pauses of {len(pauses)} in ms: ", end="")
    print(f"median {statistics.median(pauses)}, longest {max(pauses)}")
    assert readers.faults == []
    assert statistics.median(pauses) < 100
    # A partition that is acquired anew meanwhile, as when an answer is late, begins anew, too.
    anew = sum(worker.log().count("goes on after") for worker in workers) - acquired
    assert len(pauses) in range(16 - 2 * anew, 17 + 2 * anew)
    assert all(part.done >= part.total > 0 for part in parts)
    await bank.becomes_exact()


@pytest.mark.drill
async def test_a_cancelled_rebuild_leaves_nothing(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    stalled = await bank.stalled_worker()
    await bank.worker()
    await fill(bank.store, 100, 10)
    await bank.becomes_exact()
    load = Load(bank.store)
    async with load.steady(100):
        job = await bank.replaying(await bank.rebuild())
        await bank.jobs.cancel(job.id)
        await eventually(lambda: bank.is_single(1), message="the new one is gone")
    assert (await bank.over(job)).phase == "cancelled"
    await bank.becomes_exact()
    assert await stalled.stop() == 0
    again = await bank.over(await bank.rebuild(), seconds=60)
    assert again.phase == "done"
    await bank.becomes_exact()


@pytest.mark.drill
async def test_a_rebuild_whose_index_is_deleted_fails_and_says_so(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    stalled = await bank.stalled_worker()
    await bank.worker()
    await fill(bank.store, 100, 10)
    await bank.becomes_exact()
    load = Load(bank.store)
    async with load.steady(100):
        job = await bank.replaying(await bank.rebuild())
        await bank.elastic.client.indices.delete(index="balance-2")
        failed = await bank.over(job)
        assert (failed.phase, failed.reason) == ("failed", "the index balance-2 was deleted")
        again = await bank.rebuild()  # at once: a worker may not even see that it had failed
        assert again.id == job.id
        assert await stalled.stop() == 0
        assert (await bank.over(again)).phase == "done"
    await bank.becomes_exact()
