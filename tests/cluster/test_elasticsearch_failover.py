"""A bank under load while its Elasticsearch loses nodes: nothing is lost, no reader goes back, and
all goes on soon after the servers have.

Three nodes; each index has a replica, and no copy on the master, so that a node is lost that has
one task only.
"""

import json
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from api.balances.app import create_app
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.cluster.elasticsearch import PROMPT, Cluster, elasticsearch_cluster
from tests.cluster.recovery import Busy, Readers, recovery
from tests.conftest import wipe_elasticsearch
from tests.harness import eventually
from tests.invariants import invariants_hold
from tests.outages import Bank
from tests.proxy import HttpProxy
from tests.proxy.http import Forward, Reply, Request
from tests.services import Client, serving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

log = logging.getLogger(__name__)
Wanted = Callable[[Request], bool]

INDEXES = ("balance-1", "bank-checkpoints")
HOW = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP, "restarted": signal.SIGTERM}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def nodes() -> AsyncIterator[Cluster]:
    async with elasticsearch_cluster(3, PROMPT) as cluster:
        yield cluster


@pytest.fixture
async def told(settings: Settings, nodes: Cluster) -> Settings:
    await nodes.all_back()
    await wipe_elasticsearch(nodes.nodes["n0"].url)
    await nodes.keep_off(await nodes.master())
    return settings.model_copy(
        update={
            "elasticsearch_url": nodes.url,
            "index_replicas": 1,
            "rebuild_grace_seconds": 1.0,
        }
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """A bank at work, and its readers."""

    bank: Bank
    client: Client
    nodes: Cluster
    readers: Readers


@asynccontextmanager
async def at_work(told: Settings, nodes: Cluster, **ways: str) -> AsyncIterator[Scene]:
    """A bank under load with readers; when the block has ended, all is judged. `ways` are what the
    roles are told in place of the settings."""
    async with Bank(told, **ways) as bank, serving(create_app(told)) as client:
        busy = Busy(bank.acknowledged)
        await busy.next()
        await bank.load.write(20)
        await eventually(lambda: exact(nodes.url, bank.store), seconds=600)
        await nodes.whole()
        readers = Readers(client, busy)
        async with bank.load.steady(50), readers.reading():
            await readers.caught_up()
            yield Scene(bank, client, nodes, readers)
            await readers.caught_up()
        assert readers.back == []
        await eventually(lambda: exact(nodes.url, bank.store), seconds=600)
        await invariants_hold(told)
        assert await bank.acknowledged.is_stored()


async def lose(scene: Scene, victim: str, number: int, fault: str) -> None:
    """Lose a node until the bank has gone on without it, and get it back; measures the first."""
    node, readers = scene.nodes.nodes[victim], scene.readers
    readers.begin()
    begun = time.monotonic()
    await node.kill(number)
    try:
        await scene.nodes.agreed()
        ready = time.monotonic()
        await readers.caught_up()
        log.info("%s", recovery(fault, begun, ready, readers))
        await scene.bank.load.more(100)
    finally:
        await node.back()
    await scene.nodes.whole()
    await readers.caught_up()


async def victim_of(nodes: Cluster, kind: str) -> str:
    """The node with the primaries, the one with the replicas, or the elected master."""
    if kind == "master":
        return await nodes.master()
    primaries = await nodes.primary(INDEXES[0])
    await nodes.move_primary(INDEXES[1], primaries)
    return primaries if kind == "primaries" else await nodes.replica(INDEXES[0])


@pytest.mark.parametrize("how", ["killed", "frozen", "restarted"])
async def test_a_bank_goes_on_without_a_node(told: Settings, nodes: Cluster, how: str) -> None:
    """Each role sends requests through all nodes, so through the one that is lost, too."""
    async with at_work(told, nodes) as scene:
        for kind in ("replicas", "primaries", "master"):
            await lose(scene, await victim_of(nodes, kind), HOW[how], f"{kind} {how}")


async def test_a_list_is_whole_or_there_is_none(told: Settings, nodes: Cluster) -> None:
    """With a shard away Elasticsearch answers with what the others have, unless told not to."""
    told = told.model_copy(update={"index_replicas": 0, "index_shards": 4})
    async with Bank(told) as bank, serving(create_app(told)) as client:
        await bank.load.write(30)
        await eventually(lambda: exact(nodes.url, bank.store), seconds=600)
        whole = await listed(client)
        assert whole is not None
        victim = await nodes.primary(INDEXES[0])
        await nodes.nodes[victim].kill()
        assert await listed(client) is None
        await nodes.nodes[victim].back()
        await nodes.whole()
        assert await eventually(lambda: listed(client)) == whole


async def listed(client: Client) -> set[str] | None:
    """The accounts in the list; None if it can't be read."""
    async with client.get("/?limit=100") as answer:
        if answer.status == 503:
            return None
        assert answer.status == 200, await answer.text()
        return {each["id"] for each in (await answer.json())["data"]}


# ---------------------------------------------------------------- in the midst of a swap


def freezes(request: Request) -> bool:
    return request.path.endswith("/_settings") and b'"-1"' in request.body


def refreshes(request: Request) -> bool:
    return request.path.endswith("/_refresh")


def swaps(request: Request) -> bool:
    if request.path != "/_aliases":
        return False
    added = [each["add"] for each in json.loads(request.body)["actions"] if "add" in each]
    return any(each["alias"] == "balance" for each in added)


def drops(request: Request) -> bool:
    return request.method == "DELETE" and request.path.startswith("/balance-")


STEPS: dict[str, tuple[Wanted, bool]] = {
    "refresh frozen": (freezes, True),
    "before the refresh": (refreshes, False),
    "before the swap": (swaps, False),
    "after the swap": (swaps, True),
    "before the drop": (drops, False),
}
"""Where a node is killed: before a request of the rebuild, or (True) as soon as it is answered."""

STRIKES = [
    ("primaries", "refresh frozen"),
    ("primaries", "before the refresh"),
    ("master", "before the swap"),
    ("primaries", "after the swap"),
    ("master", "before the drop"),
]


class Strike:
    """Kills the elected master, or the node with the primary of the generation that is built or
    dropped, at a step of the rebuild that builds generation `number`."""

    def __init__(self, nodes: Cluster, kind: str, step: str, number: int) -> None:
        self.killed = ""
        self._begun = False
        self.number, self._nodes, self._kind = number, nodes, kind
        self._wanted, self._after = STEPS[step]

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        if self._begun or not self._wanted(request):
            return await forward(request)
        self._begun = True
        victim = await self._victim(request.path.split("/")[1])
        reply = await forward(request) if self._after else None
        await self._nodes.nodes[victim].kill()
        self.killed = victim
        return reply or await forward(request)

    async def _victim(self, index: str) -> str:
        await self._nodes.whole()  # a new index may have one copy yet
        if self._kind == "master":
            return await self._nodes.master()
        return await self._nodes.primary(index if "-" in index else f"balance-{self.number}")


async def test_a_rebuild_goes_on_when_a_node_dies_in_its_swap(
    told: Settings, nodes: Cluster
) -> None:
    """Readers go from one generation to the next one, and not back, whatever step is hit."""
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(HttpProxy(node.url)) for node in nodes.nodes.values()
        ]
        url = ",".join(each.url for each in proxies)
        scene = await stack.enter_async_context(at_work(told, nodes, elasticsearch_url=url))
        for number, (kind, step) in enumerate(STRIKES, start=2):
            strike = Strike(nodes, kind, step, number)
            for proxy in proxies:
                proxy.faults[:] = [strike]
            await rebuild(scene, strike, f"{kind} killed, {step}")


async def rebuild(scene: Scene, strike: Strike, fault: str) -> None:
    """Rebuild the projection, the strike being in the way."""
    nodes, readers = scene.nodes, scene.readers
    readers.begin()
    async with scene.client.post("/balance/rebuild") as answer:
        assert answer.status == 202, await answer.text()
    await eventually(lambda: strike.killed, seconds=600, message=f"{fault}: it is reached")
    begun = time.monotonic()
    await nodes.agreed()
    ready = time.monotonic()
    await readers.caught_up()
    log.info("%s", recovery(fault, begun, ready, readers))
    await eventually(
        lambda: is_alone(nodes, strike.number), seconds=600, message=f"{fault}: all else is dropped"
    )
    await nodes.nodes[strike.killed].back()
    await nodes.whole()
    await readers.caught_up()


async def is_alone(nodes: Cluster, number: int) -> bool:
    """Whether that generation is the only one left, and readers see it."""
    found = await nodes.ask("GET", "/_alias")
    indexes = {name: about["aliases"] for name, about in found.items() if "balance-" in name}
    return list(indexes) == [f"balance-{number}"] and "balance" in indexes[f"balance-{number}"]
