"""Rebuilding partitions in place, in the index that readers see."""

from typing import Any

import pytest

from pipeline.model.events import partition_of, slot_of
from tests.agents.rebuild.bank import Bank, fill
from tests.harness import eventually
from tests.load import Load

pytestmark = pytest.mark.elasticsearch

GHOST = "01J0000000000000000000GH0S"


async def damage(bank: Bank, account: str, body: dict[str, Any]) -> None:
    """A plain write, as people do with curl."""
    await bank.elastic.client.index(index="balance", id=account, document=body, refresh=True)


@pytest.mark.drill
async def test_damaged_partitions_are_made_right_under_load(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    await bank.worker()
    await bank.worker()
    accounts = await fill(bank.store, 60, 5)
    await bank.becomes_exact()
    load = Load(bank.store)
    partitions = sorted({partition_of(slot_of(each), 8) for each in [*accounts[:20], GHOST]})
    async with load.steady(100):
        for account in accounts[:10]:
            await damage(bank, account, {"id": account, "owner": "Mallory", "balance": 10**9})
        for account in accounts[10:20]:
            await bank.elastic.client.delete(index="balance", id=account)
        await damage(bank, GHOST, {"id": accounts[0], "owner": "Ghost", "version": 7})
        job, _ = await bank.jobs.start("in-place", partitions, 8)
        assert (await bank.over(job)).phase == "done"
    await bank.becomes_exact()
    assert sum(part.removed for part in bank.jobs.parts(job)) == 1
    assert await bank.is_single(1)
    await load.write(300)
    await bank.becomes_exact()


async def test_a_full_rebuild_leaves_damage_behind(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    await bank.worker()
    accounts = await fill(bank.store, 40, 5)
    await bank.becomes_exact()
    load = Load(bank.store)
    async with load.steady(100):
        for account in accounts[:10]:
            await damage(bank, account, {"id": account, "owner": "Mallory", "balance": 10**9})
        for account in accounts[10:20]:
            await bank.elastic.client.delete(index="balance", id=account)
        await damage(bank, GHOST, {"id": GHOST, "owner": "Ghost", "version": 7})
        assert (await bank.over(await bank.rebuild())).phase == "done"
        await eventually(lambda: bank.is_single(2), seconds=60)
    await bank.becomes_exact()
