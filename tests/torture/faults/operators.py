"""What people do to a bank that runs: rebuilds, more or fewer partitions and workers."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from tests.harness import Role, eventually
from tests.torture.checker.fold import PROJECTIONS
from tests.torture.faults.base import Fault, Maker
from tests.torture.world import GUEST

_COUNTS: Final = (2, 3, 4, 6)
_START_SECONDS: Final = 20.0


class Rebuild(Fault):
    """All of a projection, into a new generation, beside whatever else happens."""

    wanted: Mapping[str, Any] = {}

    async def begin(self) -> None:
        self._path = f"/{self.chance.choice(sorted(PROJECTIONS))}/rebuild"
        self._rebuild = await eventually(self._started, seconds=_START_SECONDS, every=0.3)

    async def _started(self) -> Any:
        status, body = await self.world.ask_balances("POST", self._path, json=self.wanted)
        return body if status == 202 else None


class RebuildCancelled(Rebuild):
    async def heal(self) -> None:
        await self.world.ask_balances("DELETE", f"/rebuilds/{self._rebuild['id']}")


class RebuildKilled(Rebuild):
    """With a worker that dies in the midst of it."""

    async def begin(self) -> None:
        await super().begin()
        self._name = self.chance.choice(self.world.of("worker"))
        await asyncio.sleep(self.chance.uniform(0, 1))
        await self.world.kill(self._name)

    async def heal(self) -> None:
        await self.world.start(self._name)


class InPlace(Rebuild):
    """Compared and mended in the live generation."""

    wanted: Mapping[str, Any] = {"in_place": True}


class Join(Fault):
    """A worker joins, and leaves in good order."""

    async def begin(self) -> None:
        await self.world.start(GUEST)

    async def heal(self) -> None:
        await self.world.leave(GUEST)


class Vanish(Join):
    """A worker joins, and is killed."""

    async def heal(self) -> None:
        await self.world.kill(GUEST)


class Repartition(Fault):
    """Another number of partitions, and once more another. A refusal is an answer, too."""

    async def begin(self) -> None:
        await self._to(self.chance.choice(_COUNTS))

    async def heal(self) -> None:
        await self._to(self.chance.choice(_COUNTS))

    async def _to(self, count: int) -> None:
        command = Role(self.world.settings, "bank", "repartition", str(count), "--patience", "5")
        await command.start()
        try:
            await command.wait(30)
        finally:
            await command.close()


class Forget(Fault):
    """Somebody has an account forgotten; perhaps the command is killed, and given again."""

    async def begin(self) -> None:
        _, body = await self.world.ask_balances("GET", "/?limit=50")
        self._account = self.chance.choice(body["data"])["id"]
        self.world.forgotten.append(self._account)
        killed = self.chance.random() < 0.5
        await self.world.forget(self._account, self.chance.uniform(0.5, 3) if killed else 30)

    async def heal(self) -> None:
        await self.world.forget(self._account)


OPERATORS: Final[dict[str, Maker]] = {
    "rebuild": Rebuild,
    "rebuild-cancelled": RebuildCancelled,
    "rebuild-killed": RebuildKilled,
    "rebuild-in-place": InPlace,
    "worker-joins": Join,
    "worker-vanishes": Vanish,
    "repartition": Repartition,
    "forget": Forget,
}
