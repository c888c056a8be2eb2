"""Watched while it runs: every claim of a partition that was accepted, and roles that end."""

import asyncio
import json
from bisect import insort
from typing import Any, Final, NamedTuple

from tests.proxy import Forward, Reply, Request
from tests.proxy.bulk import is_bulk, items_of
from tests.torture.breaches import Breaches
from tests.torture.world import World

_EVERY: Final = 0.3


class Claim(NamedTuple):
    """A write of a checkpoint: its number in the index, and in whose epoch."""

    number: int
    epoch: int
    owner: str


class Watch:
    """An epoch of a checkpoint belongs to one owner, and no lower one is written after it.

    What a bulk has written is read where it passes the proxy, in the order that the index gave:
    a claim that somebody puts right a moment later is seen all the same.
    """

    def __init__(self, world: World, breaches: Breaches) -> None:
        self._world, self._breaches = world, breaches
        self._checkpoints = world.settings.names.checkpoints.encode()
        self._claims: dict[str, list[Claim]] = {}
        self._life = 0
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Look until `stop`."""
        self._world.ways.observers.append(self)
        while not self._stop.is_set():
            await self._look_at_roles()
            await asyncio.sleep(_EVERY)

    def stop(self) -> None:
        self._stop.set()

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        life = self._world.lives
        reply = await forward(request)
        if is_bulk(request) and self._checkpoints in request.body and reply.status == 200:
            if self._life != self._world.lives:  # what was written may be lost, or counted anew
                self._life = self._world.lives
                self._claims.clear()
            if life == self._life:
                self._see_all(request, reply)
        return reply

    def _see_all(self, request: Request, reply: Reply) -> None:
        for item, answer in zip(items_of(request), json.loads(reply.body)["items"], strict=True):
            (found,) = answer.values()
            if found["status"] < 300 and "_seq_no" in found:
                self._see(item.id, found["_seq_no"], json.loads(item.lines.splitlines()[1]))

    def _see(self, name: str, number: int, source: dict[str, Any]) -> None:
        now, known = (
            Claim(number, source["epoch"], source["owner"]),
            self._claims.setdefault(name, []),
        )
        insort(known, now)
        at = known.index(now)
        pairs = [known[i : i + 2] for i in (at - 1, at) if 0 <= i < len(known) - 1]
        for before, after in pairs:
            same = before.epoch == after.epoch and before.owner == after.owner
            follows = after.epoch > before.epoch or same
            self._breaches.judge(9, follows, f"claim {name}: {before} was followed by {after}")

    async def _look_at_roles(self) -> None:
        for name in self._world.fallen():
            role = self._world.roles[name]
            self._breaches.add(12, f"{name} ended by itself with {role.exit_code}")
            self._world.down.add(name)
            await self._world.start(name)
        self._breaches.looked(12)
