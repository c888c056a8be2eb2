"""Ways from a role to a server, or from clients to a service: cut, slow, or dead on one side."""

import random
from functools import partial
from typing import Final

from tests.torture.faults.base import Fault, Maker
from tests.torture.world import World

_SLOW: Final = (0.02, 0.3)
_ONE_HOST: Final = 0.5


class WayFault(Fault):
    """Hits one role's way to a server, or with `CLIENTS` the way to one service. Where there are
    several hosts, it hits the ways to all of them, or to one."""

    def __init__(self, target: str, world: World, chance: random.Random) -> None:
        super().__init__(world, chance)
        self.ways = chance.choice(world.ways.by_role(target))
        if len(self.ways) > 1 and chance.random() < _ONE_HOST:
            self.ways = [chance.choice(self.ways)]

    async def heal(self) -> None:
        for way in self.ways:
            await way.mend()


class Cut(WayFault):
    """Connections are dropped, and new ones refused."""

    async def begin(self) -> None:
        for way in self.ways:
            await way.cut()


class Slow(WayFault):
    """Each read of either side is late."""

    async def begin(self) -> None:
        seconds = self.chance.uniform(*_SLOW)
        for way in self.ways:
            await way.slow(seconds)


class Hang(WayFault):
    """Connections stand, and nothing passes until it is mended: then all of it."""

    async def begin(self) -> None:
        for way in self.ways:
            await way.hang()


class HalfOpen(WayFault):
    """The server has lost the connections, and nobody tells the clients."""

    async def begin(self) -> None:
        for way in self.ways:
            way.half_open()


def of_target(target: str) -> dict[str, Maker]:
    """Faults of the ways to a server, or to the services."""
    return {
        f"cut-{target}": partial(Cut, target),
        f"slow-{target}": partial(Slow, target),
        f"hang-{target}": partial(Hang, target),
        f"half-open-{target}": partial(HalfOpen, target),
    }
