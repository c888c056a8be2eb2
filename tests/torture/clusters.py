"""Clusters of servers on loopback: three nats-servers, three Elasticsearch nodes, a Redis with a
replica and three sentinels. MongoDB is one process: the embedded one can't be a replica set."""

import asyncio
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from pipeline.embedded.servers import EmbeddedServers, Server
from pipeline.support.settings import Settings
from tests.cluster.elasticsearch import Cluster, Node, elasticsearch_cluster
from tests.cluster.nats import NatsCluster, nats_cluster
from tests.cluster.redis import Sentinels, sentinels
from tests.harness import eventually
from tests.torture.nodes import api, asked, connected, one_that_answers
from tests.torture.servers import Copies, placed, shorten_history

NODES: Final = 3
_IN_SYNC_SECONDS: Final = 300.0
_OWN_WAY: Final = ["--no_advertise"]
"""Roles are not told of other servers, or they would go there by no proxy."""
_QUICK_NODES: Final = {
    "cluster.fault_detection.follower_check.timeout": "5s",
    "cluster.fault_detection.follower_check.retry_count": 2,
    "cluster.fault_detection.leader_check.timeout": "5s",
    "cluster.fault_detection.leader_check.retry_count": 2,
    # Copies move when a fault moves them: readers can't be judged at that moment.
    "cluster.routing.rebalance.enable": "none",
}


Restart = Callable[[], Awaitable[None]]


class Part(Protocol):
    """A cluster of servers of one kind. Whoever does harm to it has `alone` from before until all
    of it is in sync again: so no two nodes are away that must not be."""

    alone: asyncio.Lock

    async def whole(self) -> None:
        """Wait until every node is there and in sync."""

    async def restore(self) -> None:
        """Every node runs again."""

    def restarts(self) -> Iterator[Restart]:
        """What restarts each node in good order."""


class Nats:
    """Three nats-servers, with three replicas of each stream."""

    def __init__(self, cluster: NatsCluster) -> None:
        self.alone = asyncio.Lock()
        self.cluster, self.nodes, self.url = cluster, cluster.servers, cluster.urls

    async def whole(self) -> None:
        await eventually(self._in_sync, seconds=_IN_SYNC_SECONDS, message="NATS is in sync")

    async def restore(self) -> None:
        for node in self.nodes.values():
            await node.kill(signal.SIGCONT)
        await asyncio.gather(*(node.start() for node in self.nodes.values()))

    def restarts(self) -> Iterator[Restart]:
        return (partial(_restart, node.kill, node.start) for node in self.nodes.values())

    async def leader(self, stream: str) -> Server:
        """The node that leads a stream."""
        client = await connected(self.url)
        try:
            info = await api(client, f"STREAM.INFO.{stream}")
            return self.nodes[info["cluster"]["leader"]]
        finally:
            await client.close()

    async def _in_sync(self) -> bool:
        client = await connected(self.url)
        try:
            answer = await api(client, "STREAM.LIST")
            streams: list[dict[str, Any]] = answer["streams"] or []
            if answer.get("missing") or not all(map(_in_sync, streams)):
                return False
            names = [each["config"]["name"] for each in streams if each["state"]["consumer_count"]]
            listed = [await api(client, f"CONSUMER.LIST.{name}") for name in names]
            return all(
                not each.get("missing") and all(map(_in_sync, each["consumers"] or ()))
                for each in listed
            )
        finally:
            await client.close()


class Elasticsearch:
    """Three nodes, with a replica of each shard: one node may be away at a time."""

    def __init__(self, cluster: Cluster) -> None:
        self.alone = asyncio.Lock()
        self.nodes: dict[str, Node] = cluster.nodes
        self.url = cluster.url

    async def whole(self) -> None:
        await eventually(self._green, seconds=_IN_SYNC_SECONDS, message="Elasticsearch is green")

    async def restore(self) -> None:
        for node in self.nodes.values():
            if not node.runs:
                await node.back()

    def restarts(self) -> Iterator[Restart]:
        return (partial(_restart, node.kill, node.back) for node in self.nodes.values())

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON."""
        return await asked(method, await one_that_answers(self.url) + path, **options)

    async def master(self) -> Node:
        _, (found,) = await self.ask("GET", "/_cat/master?format=json")
        return self.nodes[found["node"]]

    async def copies(self) -> Copies:
        """The started copies, by shard."""
        _, found = await self.ask("GET", "/_cluster/state/routing_table")
        return {
            f"{index} {shard}": frozenset(
                copy["allocation_id"]["id"] for copy in copies if copy["state"] == "STARTED"
            )
            for index, about in found["routing_table"]["indices"].items()
            for shard, copies in about["shards"].items()
        }

    async def _green(self) -> bool:
        wanted = {
            "wait_for_status": "green",
            "wait_for_nodes": str(NODES),
            "wait_for_no_initializing_shards": "true",
            "wait_for_no_relocating_shards": "true",
            "wait_for_events": "languid",
            "timeout": "2s",
        }
        status, _ = await self.ask("GET", "/_cluster/health", params=wanted)
        return status == 200


class Redis:
    """A primary, its replica, and three sentinels."""

    def __init__(self, sentinels: Sentinels) -> None:
        self.alone = asyncio.Lock()
        self.sentinels, self.url = sentinels, sentinels.url

    async def whole(self) -> None:
        await eventually(self.sentinels.whole, seconds=_IN_SYNC_SECONDS, message="Redis is in sync")

    async def restore(self) -> None:
        for port, process in self.sentinels.all.items():
            if process.exit_code is None:
                process.kill(signal.SIGCONT)
            else:
                self.sentinels.restart(port)

    def restarts(self) -> Iterator[Restart]:
        return (partial(self._restart, port) for port in list(self.sentinels.all))

    async def _restart(self, port: int) -> None:
        await self.sentinels.all[port].stop()
        self.sentinels.restart(port)


class Clusters:
    """All of them, and MongoDB."""

    def __init__(
        self,
        settings: Settings,
        mongodb: EmbeddedServers,
        nats: Nats,
        elasticsearch: Elasticsearch,
        redis: Redis,
    ) -> None:
        self.settings, self._mongodb = settings, mongodb
        self.nats, self.elasticsearch, self.redis = nats, elasticsearch, redis

    @property
    def single(self) -> Mapping[str, Server]:
        return self._mongodb.servers

    async def restore(self) -> None:
        for server in self.single.values():
            await server.kill(signal.SIGCONT)
            await server.start()
        parts: tuple[Part, ...] = (self.nats, self.elasticsearch, self.redis)
        for part in parts:
            await part.restore()

    async def copies(self) -> Copies:
        return await self.elasticsearch.copies()

    async def keep_logs(self, folder: Path) -> None:
        for name, node in self.elasticsearch.nodes.items():
            await asyncio.to_thread(
                shutil.copy, node.home / "elasticsearch.log", folder / f"elasticsearch-{name}.log"
            )


async def clusters(folder: Path, stack: AsyncExitStack) -> Clusters:
    """Started on the stack."""
    nats = Nats(await stack.enter_async_context(nats_cluster(folder / "nats", NODES, _OWN_WAY)))
    redis = Redis(await stack.enter_async_context(sentinels(folder / "redis")))
    elasticsearch = Elasticsearch(
        await stack.enter_async_context(elasticsearch_cluster(NODES, _QUICK_NODES))
    )
    settings = placed(
        folder,
        nats_url=nats.url,
        redis_url=redis.url,
        elasticsearch_url=elasticsearch.url,
        stream_replicas=NODES,
        index_replicas=1,
    )
    shorten_history()
    mongodb = EmbeddedServers(settings, ["mongodb"])
    stack.push_async_callback(mongodb.stop)
    await mongodb.start()
    return Clusters(settings, mongodb, nats, elasticsearch, redis)


async def _restart(kill: Callable[[int], Awaitable[None]], start: Restart) -> None:
    await kill(signal.SIGTERM)
    await start()


def _in_sync(info: dict[str, Any]) -> bool:
    """Whether a stream or a consumer has a leader, and each of its replicas all there is."""
    about = info.get("cluster", {})
    wanted = info["config"].get("num_replicas") or len(about.get("replicas") or ()) + 1
    replicas = [each for each in about.get("replicas") or () if each["current"]]
    there = [each for each in replicas if not each.get("offline")]
    return bool(about.get("leader")) and len(there) == wanted - 1
