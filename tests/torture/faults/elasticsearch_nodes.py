"""Elasticsearch nodes of three that die or sleep, and shards that move."""

import asyncio
import signal
from typing import Final

from tests.cluster.elasticsearch import Node
from tests.torture.clusters import Clusters, Elasticsearch
from tests.torture.faults.base import Maker
from tests.torture.faults.in_cluster import InCluster

_MASTER: Final = 0.5
_NOTICED: Final = 0.5
_NOTICED_SECONDS: Final = 20.0
"""After these the others go on without a node that sleeps."""


class ElasticsearchFault(InCluster[Elasticsearch]):
    """Copies of shards come and go from its beginning until all are there again: what readers see
    may go back meanwhile (docs/clusters.md says by how much)."""

    def of(self, clusters: Clusters) -> Elasticsearch:
        return clusters.elasticsearch

    async def begin(self) -> None:
        self.world.move()
        await self.harm()

    async def harm(self) -> None:
        raise NotImplementedError

    async def heal(self) -> None:
        await super().heal()
        await self.world.rest()

    def drawn(self) -> Node:
        return self.chance.choice(list(self.cluster.nodes.values()))


class KillNode(ElasticsearchFault):
    async def harm(self) -> None:
        await self.drawn().kill(signal.SIGKILL)


class KillMaster(ElasticsearchFault):
    async def harm(self) -> None:
        await (await self.cluster.master()).kill(signal.SIGKILL)


class StopNode(ElasticsearchFault):
    """It sleeps: at times so long that the others promote copies in place of its own, and it wakes
    up with those and believes that nothing has happened."""

    async def harm(self) -> None:
        master = self.chance.random() < _MASTER
        node = await self.cluster.master() if master else self.drawn()
        await node.kill(signal.SIGSTOP)
        if self.chance.random() < _NOTICED:
            await asyncio.sleep(_NOTICED_SECONDS)


class RestartNodes(ElasticsearchFault):
    async def harm(self) -> None:
        await self.restart_nodes()


class MoveShard(ElasticsearchFault):
    """A copy moves to the node that has none of its shard."""

    async def harm(self) -> None:
        _, found = await self.cluster.ask("GET", "/_cat/shards?format=json")
        copies = sorted((each["index"], each["shard"], each["node"]) for each in found)
        index, shard, node = self.chance.choice(copies)
        nodes = {name for *which, name in copies if which == [index, shard]}
        (free,) = self.cluster.nodes.keys() - nodes
        where = {"from_node": node, "to_node": free}
        command = {"move": {"index": index, "shard": int(shard), **where}}
        await self.cluster.ask("POST", "/_cluster/reroute", json={"commands": [command]})


ELASTICSEARCH: Final[dict[str, Maker]] = {
    "kill-elasticsearch": KillNode,
    "kill-master": KillMaster,
    "stop-elasticsearch": StopNode,
    "restart-elasticsearch": RestartNodes,
    "move-shard": MoveShard,
}
