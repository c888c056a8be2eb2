"""Ways from a role to a server, or from clients to a service: cut, slow, or dead on one side."""

import random
from functools import partial
from typing import Final

from tests.torture.faults.base import Fault, Maker
from tests.torture.ways import CLIENTS, SERVERS
from tests.torture.world import World

_SLOW: Final = (0.02, 0.3)


class WayFault(Fault):
    """Hits one way to a server, or with `CLIENTS` the way to one service."""

    def __init__(self, target: str, world: World, chance: random.Random) -> None:
        super().__init__(world, chance)
        self.way = chance.choice(world.ways.to_target(target))

    async def heal(self) -> None:
        await self.way.mend()


class Cut(WayFault):
    """Connections are dropped, and new ones refused."""

    async def begin(self) -> None:
        await self.way.cut()


class Slow(WayFault):
    """Each read of either side is late."""

    async def begin(self) -> None:
        await self.way.slow(self.chance.uniform(*_SLOW))


class Hang(WayFault):
    """Connections stand, and nothing passes until it is mended: then all of it."""

    async def begin(self) -> None:
        await self.way.hang()


class HalfOpen(WayFault):
    """The server has lost the connections, and nobody tells the clients."""

    async def begin(self) -> None:
        self.way.half_open()


_TARGETS: Final = (*SERVERS, CLIENTS)

CONNECTIONS: Final[dict[str, Maker]] = {
    **{f"cut-{target}": partial(Cut, target) for target in _TARGETS},
    **{f"slow-{target}": partial(Slow, target) for target in _TARGETS},
    **{f"hang-{target}": partial(Hang, target) for target in _TARGETS},
    **{f"half-open-{target}": partial(HalfOpen, target) for target in _TARGETS},
}
