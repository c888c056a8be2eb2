"""A bank whose URLs list several hosts starts while some are down, and goes on when one dies."""

from collections.abc import AsyncIterator

import pytest

from api.balances.app import create_app
from pipeline.banking.balance import BALANCE
from pipeline.search import Elastic, FailFastElastic, ProjectionMissing, reader
from pipeline.search.scan import IndexScan
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.harness import LONG_LANE, eventually, rounds
from tests.invariants import invariants_hold
from tests.outages import Bank
from tests.ports import free_port
from tests.proxy import HttpProxy, TcpProxy
from tests.services import NOBODY, problem, serving

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
async def nodes(settings: Settings) -> AsyncIterator[list[HttpProxy]]:
    """Two ways to Elasticsearch, as two of its nodes are."""
    url = settings.elasticsearch_url
    async with HttpProxy(url) as one, HttpProxy(url) as other:
        yield [one, other]


async def test_who_only_reads_asks_the_next_node(nodes: list[HttpProxy]) -> None:
    """Each of these readers would tell the first failure."""
    dead = f"http://127.0.0.1:{free_port()}"
    url = ",".join([dead, *(each.url for each in nodes)])
    elastic, scan = FailFastElastic(url), IndexScan(url, "balance")
    for _ in range(6):
        assert await elastic.boots()
        assert await scan.alias_faults("balance") == []
    await nodes[0].close()
    for _ in range(6):
        assert await elastic.boots()
        assert await scan.alias_faults("balance") == []
    await elastic.close()
    await scan.close()


async def test_who_only_reads_does_not_wait_for_a_node_that_hangs(
    settings: Settings, nodes: list[HttpProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "TIMEOUT", 2.0)
    async with TcpProxy(settings.elasticsearch_url) as hanging:
        await hanging.hang()
        documents = reader.DocumentReader(f"{hanging.url},{nodes[0].url}", BALANCE)
        for _ in range(4):
            with pytest.raises(ProjectionMissing):  # it has answered
                await documents.ping()
        await documents.close()


async def test_a_writer_leaves_a_node_that_does_not_answer(nodes: list[HttpProxy]) -> None:
    elastic = Elastic(",".join(each.url for each in nodes))
    await elastic.boots()
    await nodes[0].close()
    for _ in range(20):
        await elastic.boots()
    assert elastic.retries <= 1
    await elastic.close()


@LONG_LANE
@pytest.mark.drill
async def test_a_reader_of_a_service_gets_no_error(
    settings: Settings, nodes: list[HttpProxy]
) -> None:
    told = settings.model_copy(
        update={
            "elasticsearch_url": f"{nodes[0].url},{nodes[1].url}",
            "nats_url": f"nats://127.0.0.1:{free_port()},{settings.nats_url}",
        }
    )
    async with Bank(told) as bank:
        await bank.load.write(20)
        await eventually(lambda: exact(settings.elasticsearch_url, bank.store))
        async with serving(create_app(told)) as client:
            await nodes[0].close()
            for _ in range(10):
                async with client.get("/?limit=10") as answer:
                    assert answer.status == 200
                async with client.get(f"/{NOBODY}") as answer:
                    await problem(answer, 404, "account-not-found")


@pytest.mark.drill
@pytest.mark.timeout(rounds(240, 900))
async def test_a_bank_starts_with_dead_hosts_and_outlives_a_living_one(settings: Settings) -> None:
    elasticsearch, nats = settings.elasticsearch_url, settings.nats_url
    async with (
        TcpProxy(elasticsearch) as node,
        TcpProxy(nats) as server,
        Bank(
            settings,
            elasticsearch_url=f"http://127.0.0.1:{free_port()},{node.url},{elasticsearch}",
            nats_url=f"nats://127.0.0.1:{free_port()},127.0.0.1:{server.port},{nats}",
        ) as bank,
    ):
        async with bank.load.steady(50):
            await eventually(lambda: bank.load.acknowledged > 100)
            await node.cut()
            await server.cut()
            before = bank.load.acknowledged
            await eventually(lambda: bank.load.acknowledged > before + 100)
        await eventually(lambda: exact(elasticsearch, bank.store), seconds=60)
    await invariants_hold(settings)
