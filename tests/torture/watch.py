"""Watched while it runs: checkpoints and epochs, and roles that end by themselves."""

import asyncio
from contextlib import suppress
from typing import Any, Final

import aiohttp

from tests.torture.breaches import Breaches
from tests.torture.world import World

_EVERY: Final = 0.3
_CHECKPOINTS: Final = "bank-checkpoints"


class Watch:
    """An epoch of a claim belongs to one owner, and no lower one comes after it."""

    def __init__(self, world: World, breaches: Breaches) -> None:
        self._world, self._breaches = world, breaches
        self._claims: dict[str, tuple[int, str]] = {}
        self._life = 0
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Look until `stop`."""
        while not self._stop.is_set():
            # The server may be the victim of a fault at this moment.
            with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                await self._look_at_claims()
            await self._look_at_roles()
            await asyncio.sleep(_EVERY)

    def stop(self) -> None:
        self._stop.set()

    async def _look_at_claims(self) -> None:
        if self._life != self._world.lives:  # what was seen last may be lost
            self._life = self._world.lives
            self._claims.clear()
        life = self._life
        await self._world.ask("POST", f"/{_CHECKPOINTS}/_refresh")
        status, body = await self._world.ask("POST", f"/{_CHECKPOINTS}/_search?size=1000", json={})
        if status != 200 or life != self._world.lives:
            return
        for hit in body["hits"]["hits"]:
            self._see(hit["_id"], hit["_source"])

    def _see(self, claim: str, source: dict[str, Any]) -> None:
        now, before = (source["epoch"], source["owner"]), self._claims.get(claim)
        if before is not None:
            follows = now[0] > before[0] or now == before
            self._breaches.judge(9, follows, f"claim {claim}: {before} was followed by {now}")
        self._claims[claim] = now

    async def _look_at_roles(self) -> None:
        for name in self._world.fallen():
            role = self._world.roles[name]
            self._breaches.add(12, f"{name} ended by itself with {role.exit_code}")
            self._world.down.add(name)
            await self._world.start(name)
        self._breaches.looked(12)
