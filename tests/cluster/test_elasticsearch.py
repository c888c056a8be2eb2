"""A projection with replicas on two real nodes: what readers see of it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from api.balances.app import create_app
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.cluster.elasticsearch import Cluster, elasticsearch_cluster
from tests.cluster.recovery import Watch
from tests.conftest import wipe_elasticsearch
from tests.harness import eventually
from tests.invariants import invariants_hold
from tests.outages import Bank
from tests.services import serving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

READS = 300
ACCOUNTS = 20


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def nodes() -> AsyncIterator[Cluster]:
    async with elasticsearch_cluster() as cluster:
        yield cluster


@pytest.fixture
async def told(settings: Settings, nodes: Cluster) -> Settings:
    await wipe_elasticsearch(nodes.nodes["n0"].url)
    return settings.model_copy(update={"elasticsearch_url": nodes.url, "index_replicas": 1})


async def test_reads_of_several_processes_never_go_back(told: Settings, nodes: Cluster) -> None:
    """Copies refresh each at its own moment: readers that take them in turns see that."""
    async with Bank(told) as bank, AsyncExitStack() as stack:
        await bank.load.write(ACCOUNTS)
        await eventually(lambda: exact(nodes.nodes["n0"].url, bank.store))
        await nodes.whole()
        readers = [await stack.enter_async_context(serving(create_app(told))) for _ in range(2)]
        async with readers[0].get("/?limit=1") as answer:
            some = (await answer.json())["data"][0]["id"]
        searches, lists, gets = Watch(), Watch(), Watch()
        async with bank.load.steady(100):
            for number in range(READS):
                reader = readers[number % 2]
                await searches.read(reader, f"/?search={some}")
                await lists.read(reader, "/?limit=100")
                await gets.read(reader, f"/{some}")
        assert (searches.back, lists.back, gets.back) == ([], [], [])
        assert (searches.refused, lists.refused, gets.refused) == (0, 0, 0)
        await eventually(lambda: exact(nodes.nodes["n0"].url, bank.store))
    await invariants_hold(told)


async def test_a_bank_goes_on_when_the_node_of_the_primaries_dies(
    told: Settings, nodes: Cluster
) -> None:
    """What was acknowledged is on the other node. Readers and workers leave the dead one."""
    async with Bank(told) as bank, serving(create_app(told)) as reader:
        await bank.load.write(ACCOUNTS)
        await eventually(lambda: exact(nodes.nodes["n0"].url, bank.store))
        await nodes.whole()
        for index in ("balance-1", "bank-checkpoints"):
            await nodes.move_primary(index, "n1")
        async with reader.get("/?limit=1") as answer:
            some = (await answer.json())["data"][0]["id"]

        async def answered() -> bool:
            for path in (f"/?search={some}", f"/{some}"):
                async with reader.get(path) as answer:
                    if answer.status != 200:
                        return False
            return True

        async with bank.load.steady(50):
            await bank.load.more(50)
            await nodes.nodes["n1"].kill()
            await eventually(answered)
            await bank.load.more(200)
            assert await answered()
        await eventually(lambda: exact(nodes.nodes["n0"].url, bank.store), seconds=180)
        await invariants_hold(told)
    nodes.nodes["n1"].start()
    await nodes.whole()
