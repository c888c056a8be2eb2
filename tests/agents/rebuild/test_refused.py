"""Elasticsearch refuses documents while a generation is built: nobody who is shown goes missing."""

import pytest

from pipeline.agents.rebuild.build import REFUSED_SECONDS
from tests.agents.rebuild.bank import Bank, fill
from tests.bank import documents
from tests.harness import LONG_LANE, eventually
from tests.proxy import HttpProxy, refused

pytestmark = pytest.mark.elasticsearch


async def test_what_is_refused_for_a_while_is_there_when_readers_come(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    async with HttpProxy(bank.settings.elasticsearch_url) as proxy:
        await bank.start("bank", "worker", BANK_ELASTICSEARCH_URL=proxy.url)
        ids = await fill(bank.store, 40, 3)
        await bank.becomes_exact()
        fault = refused(ids[:3])
        with proxy.faulty(fault):
            job = await bank.rebuild()
            await eventually(lambda: fault.count >= 6, message="they are tried again")
            await bank.jobs.refresh()
            now = bank.jobs.job(job.id)
            assert now is not None
            assert now.phase == "building"
        await bank.reaches(job, "swapped", "done")
        assert (await documents(bank.settings.elasticsearch_url)).keys() == {*ids}
        assert (await bank.over(job)).phase == "done"
        await bank.becomes_exact()


@LONG_LANE
@pytest.mark.drill
async def test_what_is_refused_for_good_is_parked_and_the_rebuild_ends(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    async with HttpProxy(bank.settings.elasticsearch_url) as proxy:
        worker = await bank.start("bank", "worker", BANK_ELASTICSEARCH_URL=proxy.url)
        ids = await fill(bank.store, 10, 2)
        await bank.becomes_exact()
        with proxy.faulty(refused(ids[:1])):
            job = await bank.rebuild()
            assert (await bank.over(job, seconds=REFUSED_SECONDS + 60)).phase == "done"
            shown = await documents(bank.settings.elasticsearch_url)
            assert shown.keys() == {*ids[1:]}
        assert f"Account {ids[0]} is parked" in worker.log()
