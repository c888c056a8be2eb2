"""What the bank relies on in a server, changed by hand: a unique index, an alias, an open index."""

import asyncio
from typing import Any, Final

from pymongo import MongoClient

from tests.harness import eventually
from tests.proxy.closed import ClosedIndex
from tests.torture.checker.fold import PROJECTIONS
from tests.torture.faults.base import Fault, Maker

LOOK_SECONDS: Final = 0.5
"""By then the bank has seen that an index is missing."""
_IDLE_SECONDS: Final = 20.0
_GUARDS: Final = (["slot", "account_id", "version"], ["idempotency_key"])
_CHECKPOINTS: Final = "bank-checkpoints-live"


class IndexDropped(Fault):
    """One of the two unique indexes of `events` is dropped, and nobody creates it but the bank.

    Between two looks of the bank nothing guards the events, and what is stored then is stored. So
    clients wait from shortly before until the bank has looked; what they send then must be
    refused or guarded.
    """

    async def begin(self) -> None:
        async with self.world.gate.shut():
            await eventually(self._idle, seconds=_IDLE_SECONDS, message="nothing is stored")
            await asyncio.to_thread(self._drop, self.chance.choice(_GUARDS))
            await asyncio.sleep(LOOK_SECONDS)

    async def _idle(self) -> bool:
        """Whether no account service has something left to store: none is asleep or cut off."""
        ready = [await self.world.ready(name) for name in self.world.of("accounts")]
        return all(ready) and not any(way.kept() for way in self.world.ways.to_target("mongodb"))

    def _drop(self, key: list[str]) -> None:
        url, database = self.world.settings.mongodb_url, self.world.settings.mongodb_database
        with MongoClient[dict[str, Any]](url, directConnection=True, retryWrites=False) as client:
            events = client[database]["events"]
            for each in list(events.list_indexes()):
                if list(each["key"]) == key:
                    events.drop_index(each["name"])


class AliasAdded(Fault):
    """A second index, empty, gets the alias that readers use, or one that is written by, as with a
    restored snapshot; sometimes writes go there. Nobody takes it away but the bank."""

    async def begin(self) -> None:
        projection = self.chance.choice(sorted(PROJECTIONS))
        _, found = await self.world.ask("GET", f"/{projection}")
        ((_, live),) = found.items()
        alias = self.chance.choice((*sorted(live["aliases"]), _CHECKPOINTS))
        name = self.chance.choice((f"restored-{self.chance.randrange(10**6)}", f"{projection}-0"))
        there = {"mappings": live["mappings"]} if self.chance.random() < 0.5 else {}
        # Writes go to the one that says so, and without one they are refused.
        options = self.chance.choice(({}, {"is_write_index": True}))
        body = {"aliases": {alias: options}, **there}
        status, answer = await self.world.ask("PUT", f"/{name}", json=body)
        if status == 400:  # it exists: from an earlier time
            action = {"add": {"index": name, "alias": alias, **options}}
            status, answer = await self.world.ask("POST", "/_aliases", json={"actions": [action]})
        if status != 200:
            raise RuntimeError(answer)


class IndexClosed(Fault):
    """The index of a live generation or of the checkpoints is closed, and opened again if the bank
    has not opened it itself."""

    async def begin(self) -> None:
        alias = self.chance.choice((*sorted(PROJECTIONS), _CHECKPOINTS))
        _, found = await self.world.ask("GET", f"/_alias/{alias}")
        (self._index,) = found
        _, found = await self.world.ask("GET", f"/{self._index}/_alias")
        self._closed = ClosedIndex(self._index, found[self._index]["aliases"])
        self.world.ways.faults.append(self._closed)
        await self.world.ask("POST", f"/{self._index}/_close")

    async def heal(self) -> None:
        self._closed.closed = False
        await self.world.ask("POST", f"/{self._index}/_open")


GUARDS: Final[dict[str, Maker]] = {
    "index-dropped": IndexDropped,
    "alias-added": AliasAdded,
    "index-closed": IndexClosed,
}
