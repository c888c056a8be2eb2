"""A read by id shows a write before all copies have it. When its copy dies, another one, which
lacks that write, takes its place: Elasticsearch goes back, and the balance service does not.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from api.balances.app import create_app
from pipeline.search.values import PREFERENCE
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.cluster.elasticsearch import PROMPT, Cluster, elasticsearch_cluster
from tests.cluster.recovery import Busy, Watch
from tests.harness import eventually
from tests.invariants import invariants_hold
from tests.outages import Bank
from tests.proxy import TcpProxy
from tests.services import Client, serving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

COPIES = ("n1", "n2")


@pytest.fixture
async def ways() -> AsyncIterator[dict[str, TcpProxy]]:
    """What other nodes ask of those with copies passes these."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(TcpProxy("tcp://127.0.0.1:9")) for name in COPIES
        }


@pytest.fixture
async def nodes(ways: dict[str, TcpProxy]) -> AsyncIterator[Cluster]:
    async with elasticsearch_cluster(3, PROMPT, ways) as cluster:
        await cluster.keep_off("n0")
        yield cluster


async def stored(nodes: Cluster, account: str) -> int:
    """The version that a reader of Elasticsearch gets."""
    found = await nodes.ask("GET", f"/balance/_doc/{account}", preference=PREFERENCE)
    return int(found["_source"]["version"])


async def preferred(nodes: Cluster, index: str) -> str:
    """The node whose copy the bank's reads are sent to."""
    found = await nodes.ask("GET", f"/{index}/_search_shards", preference=PREFERENCE)
    return str(found["nodes"][found["shards"][0][0]["node"]]["name"])


async def test_what_was_shown_and_not_acknowledged_is_not_taken_back(
    settings: Settings, nodes: Cluster, ways: dict[str, TcpProxy]
) -> None:
    told = settings.model_copy(update={"elasticsearch_url": nodes.url, "index_replicas": 1})
    async with (
        TcpProxy(nodes.nodes["n1"].url) as way,
        Bank(told, elasticsearch_url=way.url) as bank,
        serving(create_app(told)) as client,
    ):
        busy, watch = Busy(bank.acknowledged), Watch()
        await busy.next()
        await eventually(lambda: exact(nodes.url, bank.store), seconds=600)
        await nodes.whole()
        for _ in range(3):  # which copy is preferred may change with the primary
            if (shown := await preferred(nodes, "balance-1")) == await nodes.primary("balance-1"):
                break
            await nodes.move_primary("balance-1", shown)
        primary, replica = (await nodes.primary("balance-1"), await nodes.replica("balance-1"))
        assert shown == primary
        # A bulk that this node has taken ends with it: no other node repeats it.
        way.lead_to(nodes.nodes[primary].url)
        await way.cut()
        await way.mend()
        await busy.next()
        await eventually(lambda: read_up_to(watch, client, busy))

        await ways[replica].hang()  # the primary writes, and is not answered by the other copy
        await busy.next()
        await eventually(lambda: read_up_to(watch, client, busy), every=0.01)
        await asyncio.gather(*(worker.kill(signal.SIGSTOP) for worker in bank.workers.values()))
        await nodes.nodes[primary].kill()
        await ways[replica].cut()  # with what it has kept
        await ways[replica].mend()
        way.lead_to(nodes.nodes["n0"].url)
        before = await eventually(lambda: stored(nodes, busy.account), seconds=600)
        assert before == busy.version - 1, "Elasticsearch has gone back"

        await watch.read(client, f"/{busy.account}")
        assert watch.refused, "it is not shown"
        await asyncio.gather(*(worker.kill(signal.SIGCONT) for worker in bank.workers.values()))
        await busy.next()
        await eventually(lambda: read_up_to(watch, client, busy), seconds=600)
        assert watch.back == []
        await nodes.nodes[primary].back()
        await nodes.whole()
        await eventually(lambda: exact(nodes.url, bank.store), seconds=600)
        await invariants_hold(told)


async def read_up_to(watch: Watch, client: Client, busy: Busy) -> bool:
    """Read the account; whether its last version was read."""
    await watch.read(client, f"/{busy.account}")
    return watch.version(busy.account) == busy.version
