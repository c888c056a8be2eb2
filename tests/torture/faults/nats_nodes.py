"""Nats-servers of three that die, sleep, lose their disk or their lead."""

import asyncio
import signal
from typing import Final

from pipeline.embedded.servers import Server
from tests.torture.clusters import Clusters, Nats
from tests.torture.faults.base import Maker
from tests.torture.faults.in_cluster import InCluster
from tests.torture.nodes import api

_LOG: Final = "balance"
_LEADER: Final = 0.5
_AWAY: Final = (0, 8)
"""Seconds that two of three are away besides those of the schedule."""


class NatsFault(InCluster[Nats]):
    def of(self, clusters: Clusters) -> Nats:
        return clusters.nats

    async def drawn(self) -> Server:
        """The leader of the log, or any node."""
        if self.chance.random() < _LEADER:
            return await self.cluster.leader(_LOG)
        return self.chance.choice(list(self.cluster.nodes.values()))


class KillNode(NatsFault):
    async def begin(self) -> None:
        await (await self.drawn()).kill(signal.SIGKILL)


class StopNode(NatsFault):
    """It sleeps, and believes that it leads when it wakes up."""

    async def begin(self) -> None:
        await (await self.drawn()).kill(signal.SIGSTOP)


class WipeNode(NatsFault):
    """It comes back with an empty disk."""

    async def begin(self) -> None:
        await self.cluster.cluster.wipe(await self.drawn())


class TwoAway(NatsFault):
    """Without a majority nothing is written, until one of them is back."""

    async def begin(self) -> None:
        number = self.chance.choice((signal.SIGKILL, signal.SIGSTOP))
        for node in self.chance.sample(list(self.cluster.nodes.values()), 2):
            await node.kill(number)
        await asyncio.sleep(self.chance.uniform(*_AWAY))


class RestartNodes(NatsFault):
    async def begin(self) -> None:
        await self.restart_nodes()


class StepDown(NatsFault):
    """A leader is asked to hand over: that of the cluster, of the log, or of a consumer."""

    async def begin(self) -> None:
        async with self.world.nats() as client:
            consumers = (await api(client, f"CONSUMER.NAMES.{_LOG}"))["consumers"] or []
            groups = [f"CONSUMER.LEADER.STEPDOWN.{_LOG}.{name}" for name in sorted(consumers)]
            verbs = [f"STREAM.LEADER.STEPDOWN.{_LOG}", "META.LEADER.STEPDOWN"]
            await api(client, self.chance.choice([*verbs, self.chance.choice(groups or verbs)]))


NATS: Final[dict[str, Maker]] = {
    "kill-nats": KillNode,
    "stop-nats": StopNode,
    "wipe-nats": WipeNode,
    "two-away-nats": TwoAway,
    "restart-nats": RestartNodes,
    "step-down-nats": StepDown,
}
