"""A worker goes on with a rebuild as soon as it can; it looks now and then for others alone."""

import pytest

from pipeline.agents.rebuild.agent import RebuildAgent
from pipeline.messaging import news
from tests.agents.rebuild.bank import Bank
from tests.agents.world import World
from tests.bank import PARTITIONS, accounts, append
from tests.harness import rounds

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(rounds(120, 300))]


async def test_who_has_all_partitions_waits_for_nobody(bank: Bank, world: World) -> None:
    await append(world.store, accounts(100, 3))
    runner = await world.start()
    job, _ = await bank.jobs.start("online", range(PARTITIONS), PARTITIONS)
    async with RebuildAgent(world.settings, runner, poll_seconds=3_600):
        done = await bank.over(job, seconds=60)
    assert done.phase == "done"
    assert all(part.done >= part.total > 0 for part in bank.jobs.parts(done))
    assert await world.exact()


async def test_who_has_nothing_to_do_has_news_of_a_job(
    bank: Bank, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "SELDOM", 3_600)
    runner = await world.start()
    async with RebuildAgent(world.settings, runner):
        await append(world.store, accounts(100, 3))
        job, _ = await bank.jobs.start("online", range(PARTITIONS), PARTITIONS)
        done = await bank.over(job, seconds=60)
    assert done.phase == "done"
