"""Elasticsearch refuses: whole requests, items of bulks for now, or documents for good."""

import re
from typing import Final

from tests.harness import eventually
from tests.proxy import Answering, ItemErrors, TooLarge, busy_items
from tests.proxy import Fault as ProxyFault
from tests.proxy.bulk import Item, ItemError
from tests.torture.checker.fold import PROJECTIONS
from tests.torture.faults.base import Fault, Maker

_RETRY_SECONDS: Final = 45.0
_ROOM: Final = (8_000, 48_000)
"""The least and the most that passes, in bytes."""
_STAYS: Final = 0.5
_BREAKS_OFF: Final = 0.3
_UNFIT: Final = ItemError(400, "document_parsing_exception", "failed to parse: a fault")
_BLOCKED: Final = ItemError(429, "cluster_block_exception", "index blocked: a fault")
_ID: Final = re.compile(r"(01[0-9A-Z]{24})(-\d+)?")
"""Of a document: its account's, in a statement with a version behind it."""


class ProxyRefusal(Fault):
    """Puts a fault into the proxies that all ways to Elasticsearch go through."""

    def fault(self) -> ProxyFault:
        raise NotImplementedError

    async def begin(self) -> None:
        self._there = self.fault()
        self.world.ways.faults.append(self._there)

    async def heal(self) -> None:
        if self._there in self.world.ways.faults:
            self.world.ways.faults.remove(self._there)


class TooBusy(ProxyRefusal):
    """429 to a share of all requests."""

    def fault(self) -> ProxyFault:
        return Answering(429, self.chance.uniform(0.3, 1), seed=self.chance.randrange(2**32))


class Unavailable(ProxyRefusal):
    """503 to a share of all requests."""

    def fault(self) -> ProxyFault:
        return Answering(503, self.chance.uniform(0.3, 1), seed=self.chance.randrange(2**32))


class ItemsBusy(ProxyRefusal):
    """429 to a share of the items of each bulk."""

    def fault(self) -> ProxyFault:
        return busy_items(self.chance.uniform(0.2, 0.8), seed=self.chance.randrange(2**32))


class IndexBlocked(ProxyRefusal):
    """No document can be written, and checkpoints can: what a disk's watermark does to an index."""

    def fault(self) -> ProxyFault:
        return ItemErrors(lambda item: _BLOCKED if _ID.fullmatch(item.id) else None)


class DocumentsRefused(ProxyRefusal):
    """Some accounts' documents are refused for good, so they are parked; healed by a retry."""

    def fault(self) -> ProxyFault:
        tail = self.chance.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ")

        def judge(item: Item) -> ItemError | None:
            found = _ID.fullmatch(item.id)
            return _UNFIT if found and found[1].endswith(tail) else None

        return ItemErrors(judge)

    async def heal(self) -> None:
        await super().heal()
        await eventually(self._retried, seconds=_RETRY_SECONDS, every=0.5)

    async def _retried(self) -> bool:
        return all([await self._retry(projection) for projection in PROJECTIONS])

    async def _retry(self, projection: str) -> bool:
        """Whether none was left to try."""
        which = f"?projection={projection}"
        status, body = await self.world.ask_balances("GET", f"/parked{which}")
        if status != 200:
            return False
        for each in body["data"]:
            path = f"/parked/{each['account_id']}/retry{which}"
            await self.world.ask_balances("POST", path)
        return not body["data"]


class BulkTooLarge(ProxyRefusal):
    """413 to bulks above a size, or a connection that breaks off, for a while or, as the setting of
    a web server in between, for the rest of the run. Each document alone is small enough."""

    async def begin(self) -> None:
        self._stays = self.chance.random() < _STAYS
        await super().begin()

    def fault(self) -> ProxyFault:
        return TooLarge(self.chance.randrange(*_ROOM), reset=self.chance.random() < _BREAKS_OFF)

    async def heal(self) -> None:
        if not self._stays:
            await super().heal()


REFUSALS: Final[dict[str, Maker]] = {
    "elasticsearch-429": TooBusy,
    "elasticsearch-503": Unavailable,
    "items-busy": ItemsBusy,
    "index-blocked": IndexBlocked,
    "documents-refused": DocumentsRefused,
    "bulk-too-large": BulkTooLarge,
}
