"""`bank rebuild` at a bank with a worker: all of it, a partition, an account, and a dry run."""

import json

import pytest

from pipeline.model.events import partition_of, slot_of
from tests.agents.rebuild.bank import Bank, fill
from tests.harness import Role

pytestmark = pytest.mark.elasticsearch

GHOST = "01J0000000000000000000GH0S"


async def rebuild(bank: Bank, *words: str) -> tuple[int, str]:
    """The command's exit code, and all that it printed."""
    async with Role(bank.settings, "bank", "rebuild", *words) as command:
        return await command.wait(120), command.log()


async def forge(bank: Bank, account_id: str, owner: str) -> None:
    """A document as somebody writes it with curl."""
    forged = {"id": account_id, "owner": owner, "balance": 10**9, "version": 1}
    await bank.elastic.client.index(index="balance", id=account_id, document=forged, refresh=True)


async def owner(bank: Bank, account_id: str) -> str:
    found = await bank.elastic.client.get(index="balance", id=account_id)
    return str(found["_source"]["owner"])


@pytest.mark.drill
async def test_what_differs_is_told_and_made_right(bank: Bank) -> None:
    await bank.start("bank", "forwarder")
    await bank.worker()
    accounts = await fill(bank.store, 20, 3)
    await bank.becomes_exact()
    ada, bob, *_ = accounts
    partition = str(partition_of(slot_of(ada), bank.settings.partitions))
    for account_id in (ada, bob, GHOST):
        await forge(bank, account_id, "Mallory")

    code, told = await rebuild(bank, "--dry-run", "--json")
    assert code == 1
    differences = json.loads(told)["differences"]
    assert {each["account_id"] for each in differences} == {ada, bob, GHOST}
    assert await owner(bank, ada) == "Mallory", "nothing was written"
    code, told = await rebuild(bank, "--dry-run", "--partition", partition)
    assert (code, ada in told) == (1, True)

    code, told = await rebuild(bank, "--account", bob)
    assert code == 0, told
    assert (await owner(bank, bob), await owner(bank, ada)) == ("Ada 1", "Mallory")
    code, told = await rebuild(bank, "--dry-run", "--account", bob)
    assert (code, "no difference" in told) == (0, True)

    code, told = await rebuild(bank, "--wait", "--partition", partition)
    assert code == 0, told
    assert "is done: 1 partition" in told
    assert await owner(bank, ada) == "Ada 0"

    await forge(bank, ada, "Mallory")
    code, told = await rebuild(bank, "--wait")
    assert code == 0, told
    assert "is done: 8 partitions, 60 events" in told
    assert "live traffic of a partition stood still 16 times: median " in told
    await bank.becomes_exact()
