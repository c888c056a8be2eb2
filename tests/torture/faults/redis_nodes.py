"""A Redis primary that dies, sleeps or hands over, and sentinels that die."""

import signal
from typing import Final

from tests.torture.clusters import Clusters, Redis
from tests.torture.faults.base import Maker
from tests.torture.faults.in_cluster import InCluster


class RedisFault(InCluster[Redis]):
    def of(self, clusters: Clusters) -> Redis:
        return clusters.redis


class KillPrimary(RedisFault):
    async def begin(self) -> None:
        await self.cluster.sentinels.fail_over(signal.SIGKILL)


class StopPrimary(RedisFault):
    """It wakes up and believes for some seconds that it is the primary."""

    async def begin(self) -> None:
        await self.cluster.sentinels.fail_over(signal.SIGSTOP)


class FailOver(RedisFault):
    """The sentinels are asked to make the replica the primary."""

    async def begin(self) -> None:
        await self.cluster.sentinels.fail_over(None)


class KillSentinel(RedisFault):
    """The first one in the roles' URL, or another."""

    async def begin(self) -> None:
        self.cluster.sentinels.all[self.chance.choice([*self.cluster.sentinels.sentinels])].kill()


class RestartNodes(RedisFault):
    """Servers and sentinels."""

    async def begin(self) -> None:
        await self.restart_nodes()


REDIS: Final[dict[str, Maker]] = {
    "kill-redis": KillPrimary,
    "stop-redis": StopPrimary,
    "fail-over-redis": FailOver,
    "kill-sentinel": KillSentinel,
    "restart-redis": RestartNodes,
}
