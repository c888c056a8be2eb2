"""A changed fold is deployed by a rebuild; a worker of an older one leaves the index alone."""

from typing import Any

import pytest

from pipeline.banking.balance import BALANCE
from tests.agents.rebuild.bank import Bank
from tests.harness import eventually
from tests.load import Load

pytestmark = pytest.mark.elasticsearch


async def live_of_version(bank: Bank, version: int, **changes: Any) -> None:
    """A generation as workers of another version left it: other fields, and a document."""
    properties = {"id": {"type": "keyword"}, "version": {"type": "long"}}
    mapping = {
        **BALANCE.mapping,
        "_meta": {"projection": version},
        "properties": properties,
        **changes,
    }
    aliases: dict[str, Any] = {"balance": {}, "balance-g1": {}}
    await bank.elastic.make_index("balance-1", aliases, mapping, {"number_of_replicas": 0})
    await bank.elastic.client.index(index="balance-1", id="x", document={"id": "x", "version": 1})


@pytest.mark.drill
async def test_an_older_generation_is_replaced_by_a_rebuild(bank: Bank) -> None:
    await live_of_version(bank, BALANCE.version - 1)
    load = Load(bank.store)
    await load.write(300)
    await bank.start("bank", "forwarder")
    async with load.steady(100):
        worker = await bank.worker()
        await eventually(lambda: bank.is_single(2), seconds=90)
    await bank.becomes_exact()
    assert f"is of version {BALANCE.version - 1} of the projection" in worker.log()
    assert "parked" not in worker.log()


async def test_a_newer_generation_is_left_alone(bank: Bank) -> None:
    await live_of_version(bank, BALANCE.version + 1)
    await bank.start("bank", "forwarder")
    worker = await bank.worker()
    await Load(bank.store).write(50)
    await eventually(lambda: "it is too old to write it" in worker.log())
    assert worker.exit_code is None
    assert list(await bank.indexes()) == ["balance-1"]
    assert (await bank.elastic.client.count(index="balance-1"))["count"] <= 1
