"""Processes that die, sleep or start anew: every role and every server."""

import random
import signal
from functools import partial
from typing import Final

from tests.torture.faults.base import Fault, Maker
from tests.torture.world import World

KINDS: Final = ("accounts", "balances", "forwarder", "worker")


class RoleFault(Fault):
    """Hits one role of a kind."""

    def __init__(self, kind: str, world: World, chance: random.Random) -> None:
        super().__init__(world, chance)
        self.name = chance.choice(world.of(kind))
        self.role = world.roles[self.name]


class KillRole(RoleFault):
    async def begin(self) -> None:
        await self.world.kill(self.name)

    async def heal(self) -> None:
        await self.world.start(self.name)


class StopRole(RoleFault):
    """It sleeps, and wakes up believing that nothing has happened."""

    async def begin(self) -> None:
        await self.role.kill(signal.SIGSTOP)

    async def heal(self) -> None:
        await self.role.kill(signal.SIGCONT)


class RestartRole(RoleFault):
    """It leaves in good order and comes back at once."""

    async def begin(self) -> None:
        await self.world.leave(self.name)
        await self.world.start(self.name)


class ServerFault(Fault):
    """Hits one server."""

    def __init__(self, name: str, world: World, chance: random.Random) -> None:
        super().__init__(world, chance)
        self.server = world.servers.single[name]


class KillServer(ServerFault):
    async def begin(self) -> None:
        await self.world.end(self.server, signal.SIGKILL)

    async def heal(self) -> None:
        await self.server.start()


class StopServer(ServerFault):
    async def begin(self) -> None:
        await self.server.kill(signal.SIGSTOP)

    async def heal(self) -> None:
        await self.server.kill(signal.SIGCONT)


class RestartServer(ServerFault):
    async def begin(self) -> None:
        await self.world.end(self.server, signal.SIGTERM)
        await self.server.start()


ROLES: Final[dict[str, Maker]] = {
    **{f"kill-{kind}": partial(KillRole, kind) for kind in KINDS},
    **{f"stop-{kind}": partial(StopRole, kind) for kind in KINDS},
    **{f"restart-{kind}": partial(RestartRole, kind) for kind in KINDS},
}


def of_server(server: str) -> dict[str, Maker]:
    """Faults of a server that is one process."""
    return {
        f"kill-{server}": partial(KillServer, server),
        f"stop-{server}": partial(StopServer, server),
        f"restart-{server}": partial(RestartServer, server),
    }
