"""The client of Elasticsearch leaves a server that is unfit, for the one its name leads to."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from elastic_transport import AiohttpHttpNode, ConnectionTimeout, NodeConfig

from pipeline.search import Elastic, FailFastElastic, ProjectionUnavailable, driver
from pipeline.search.client import REQUEST_TIMEOUT
from pipeline.support.settings import Settings
from tests.proxy import Answering, HttpProxy, TcpProxy

pytestmark = pytest.mark.elasticsearch


@dataclass
class Moved:
    """A name that leads to `old` at first; `old` passes all to Elasticsearch until it is unfit."""

    settings: Settings
    old: HttpProxy
    way: TcpProxy

    def move(self, status: int) -> None:
        self.way.lead_to(self.settings.elasticsearch_url)
        self.old.faults.append(Answering(status))


@pytest.fixture
async def moved(settings: Settings) -> AsyncIterator[Moved]:
    async with HttpProxy(settings.elasticsearch_url) as old, TcpProxy(old.url) as way:
        yield Moved(settings, old, way)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_worker_goes_on_with_the_new_one(moved: Moved, status: int) -> None:
    elastic = Elastic(moved.way.url)
    # Several connections are open, and idle when the name is moved.
    boots = (await asyncio.gather(*(elastic.boots() for _ in range(8))))[0]
    moved.move(status)
    async with asyncio.timeout(20):
        for _ in range(20):
            assert await elastic.boots() == boots
    retries = elastic.retries
    await elastic.boots()
    assert elastic.retries == retries
    await elastic.close()


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("http://a:9200,b:9200,a:9200", [9200, 9200]),
        ("http://a:9200,http://a:9200/", [9200]),
        ("http://a,a:80", [80]),
        ("https://a,b:443/", [443, 443]),
    ],
)
async def test_a_node_that_is_listed_twice_is_one(url: str, ports: list[int]) -> None:
    """The driver refuses such a list."""
    elastic = FailFastElastic(url)
    nodes: list[NodeConfig] = [each.config for each in elastic.client.transport.node_pool.all()]
    assert sorted(each.port for each in nodes) == ports
    await elastic.close()


async def test_of_many_nodes_each_has_time_for_a_slow_request() -> None:
    elastic = FailFastElastic("http://a:1,b:2,c:3,d:4,e:5")
    assert elastic.client._request_timeout == REQUEST_TIMEOUT / 2
    await elastic.close()


@pytest.mark.parametrize("count", [1, 2, 3, 6])
async def test_a_request_takes_no_longer_where_there_are_more_nodes(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has half of the time, of which there are two."""
    asked: list[str] = []

    async def silent(
        self: AiohttpHttpNode, *_: object, request_timeout: float, **__: object
    ) -> None:
        asked.append(self.base_url)
        await asyncio.sleep(request_timeout)
        raise ConnectionTimeout("slow")

    monkeypatch.setattr(AiohttpHttpNode, "perform_request", silent)
    nodes = ",".join(f"n{number}:9200" for number in range(count))
    slow = driver.client(f"http://{nodes}", timeout=0.5, repeat=True)
    with pytest.raises(ConnectionTimeout):
        await slow.perform_request("GET", "/", headers={"accept": "application/json"})
    assert len(asked) <= min(count, 3), "the third one just begins when the time is over"
    await slow.close()


async def test_a_reader_too(moved: Moved) -> None:
    """It retries nothing itself: one who asks again gets an answer the third time."""
    elastic = FailFastElastic(moved.way.url)
    await elastic.boots()
    moved.move(503)
    for _ in range(2):
        with pytest.raises(ProjectionUnavailable):
            await elastic.boots()
    await elastic.boots()
    await elastic.close()
