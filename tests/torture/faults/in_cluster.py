"""What all faults of a cluster's nodes have in common: one of them at a time, of each cluster."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from tests.torture.clusters import Clusters, Part
from tests.torture.faults.base import Fault
from tests.torture.world import World

P = TypeVar("P", bound=Part)


class InCluster(Fault, Generic[P]):
    """It begins when all nodes of its cluster are in sync, and ends when they are so again."""

    def __init__(self, world: World, chance: random.Random) -> None:
        super().__init__(world, chance)
        assert isinstance(world.servers, Clusters)
        self.cluster = self.of(world.servers)

    def of(self, clusters: Clusters) -> P:
        """The cluster that it hits."""
        raise NotImplementedError

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        async with self.cluster.alone:
            await self.cluster.whole()
            yield

    async def restart_nodes(self) -> None:
        """Each in good order, when the one before it is in sync again."""
        for restart in self.cluster.restarts():
            await restart()
            await self.cluster.whole()

    async def heal(self) -> None:
        await self.cluster.restore()
        await self.cluster.whole()
