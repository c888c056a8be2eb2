"""What a fault is."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.torture.world import World


class Fault:
    """One fault on one world; it draws from `chance` whom it hits and how.

    `begin` and `heal` may raise when what they speak to is away, for faults overlap: then it
    is said to have missed. `heal` comes after `begin` in any case.
    """

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Begin and heal in this block: it is entered when harm may be done."""
        yield

    async def begin(self) -> None:
        """Do harm."""

    async def heal(self) -> None:
        """Let the bank recover; does nothing for what can't be undone."""


Maker = Callable[[World, random.Random], Fault]
