"""What rebuilds leave behind when one follows another at once: nothing."""

import pytest

from tests.agents.rebuild.bank import Bank, fill
from tests.harness import eventually

pytestmark = pytest.mark.elasticsearch


@pytest.mark.drill
async def test_generations_replaced_in_quick_succession_are_all_dropped(bank: Bank) -> None:
    """Each begins before the one before it has dropped what it replaced."""
    await bank.start("bank", "forwarder")
    await bank.start("bank", "worker", BANK_REBUILD_GRACE_SECONDS="4")
    await fill(bank.store, 20, 3)
    await bank.becomes_exact()
    for _ in range(2):
        assert (await bank.over(await bank.rebuild())).phase == "done"
    job, _ = await bank.jobs.start("in-place", [0], bank.settings.partitions)
    assert (await bank.over(job)).phase == "done"
    await eventually(lambda: bank.is_single(3), seconds=60, message="one generation is left")
    await bank.becomes_exact()
