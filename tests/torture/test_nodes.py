"""A list of nodes: whoever answers is asked."""

from pipeline.support.settings import Settings
from tests.ports import free_port
from tests.proxy import TcpProxy
from tests.torture.nodes import api, asked, connected, one_that_answers


async def test_a_dead_node_and_one_that_hangs_are_passed_over(settings: Settings) -> None:
    living = settings.elasticsearch_url
    async with TcpProxy(living) as hanging:
        await hanging.hang()
        url = f"http://127.0.0.1:{free_port()},{hanging.url},{living}"
        assert await one_that_answers(url) == living
    status, _ = await asked("GET", f"{living}/_alias")
    assert status == 200


async def test_and_so_are_nats_servers(settings: Settings) -> None:
    async with TcpProxy(settings.nats_url) as hanging:
        await hanging.hang()
        url = f"nats://127.0.0.1:{free_port()},{hanging.url},{settings.nats_url}"
        client = await connected(url)
        assert (await api(client, "INFO"))["streams"] == 0
        await client.close()
