"""Of several nodes of Elasticsearch, those that fail or hang are left for the others."""

import asyncio
from types import SimpleNamespace

import pytest
from elastic_transport import NodeConfig

from pipeline.search import Elastic, nodes
from pipeline.search.nodes import Node, Nodes
from pipeline.support.settings import Settings
from tests.proxy import HttpProxy, Slow, TcpProxy
from tests.proxy.http import Request

REST = 10.0


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(nodes, "HANGING_SECONDS", 0.5)


@pytest.mark.elasticsearch
async def test_a_writer_does_not_wait_for_a_node_that_hangs(settings: Settings, soon: None) -> None:
    """Its requests may take 30 s."""
    url = settings.elasticsearch_url
    async with TcpProxy(url) as hanging:
        elastic = Elastic(f"{hanging.url},{url}")
        for _ in range(4):  # both have connections
            await elastic.boots()
        await hanging.hang()
        async with asyncio.timeout(20):
            for _ in range(20):
                await elastic.boots()
        assert elastic.retries == 1
        await elastic.close()


@pytest.mark.elasticsearch
async def test_a_node_that_only_takes_long_is_waited_for(settings: Settings, soon: None) -> None:
    url = settings.elasticsearch_url
    async with HttpProxy(url) as one, HttpProxy(url) as other:
        for each in (one, other):
            each.faults.append(Slow(2.0, match=of_jvm))
        elastic = Elastic(f"{one.url},{other.url}")
        await asyncio.gather(*(elastic.boots() for _ in range(4)))
        assert elastic.retries == 0
        await elastic.close()


def of_jvm(request: Request) -> bool:
    return "jvm" in request.path


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(nodes, "time", SimpleNamespace(monotonic=lambda: self.now))


class Pool:
    """Three nodes, and which of them requests go to."""

    def __init__(self) -> None:
        configs = [NodeConfig("http", f"n{number}", 9200) for number in range(3)]
        self.nodes = Nodes(
            configs, Node, dead_node_backoff_factor=REST, max_dead_node_backoff=3 * REST
        )
        self.first = self.nodes.get()

    def asked(self, count: int = 9) -> int:
        """How many of so many requests go to the first one."""
        return [self.nodes.get() for _ in range(count)].count(self.first)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_one_request_alone_tries_a_node_that_failed(clock: Clock) -> None:
    pool = Pool()
    assert pool.asked() == 3
    pool.nodes.mark_dead(pool.first)
    assert pool.asked() == 0
    clock.now += REST
    assert pool.asked() == 1
    pool.nodes.mark_dead(pool.first)
    clock.now += 2 * REST - 1
    assert pool.asked() == 0, "it rests for longer each time"
    clock.now += 1
    assert pool.asked() == 1
    pool.nodes.mark_live(pool.first)
    assert pool.asked() == 3


def test_what_was_under_way_when_a_node_failed_counts_once(clock: Clock) -> None:
    pool = Pool()
    for _ in range(10):
        pool.nodes.mark_dead(pool.first)
    clock.now += REST
    assert pool.asked() == 1


def test_a_try_without_an_outcome_is_repeated(clock: Clock) -> None:
    """Its caller was cancelled."""
    pool = Pool()
    pool.nodes.mark_dead(pool.first)
    for _ in range(3):
        clock.now += REST
        assert pool.asked() == 1


def test_when_all_have_failed_all_are_tried(clock: Clock) -> None:
    pool = Pool()
    for node in pool.nodes.all():
        for _ in range(5):
            pool.nodes.mark_dead(node)
    assert pool.asked() == 3
    pool.nodes.mark_live(pool.first)
    assert pool.asked() == 9
