"""Elasticsearch refuses: whole requests, items of bulks for now, or documents for good."""

from typing import Final

from tests.proxy import Answering, ItemErrors, busy_items
from tests.proxy import Fault as ProxyFault
from tests.proxy.bulk import ItemError
from tests.support import eventually
from tests.torture.faults.base import Fault, Maker

_RETRY_SECONDS: Final = 45.0
_UNFIT: Final = ItemError(400, "document_parsing_exception", "failed to parse: a fault")
_ULID: Final = 26
"""The length of an account's id; a checkpoint's is another."""


class ProxyRefusal(Fault):
    """Puts a fault into the proxy that all ways to Elasticsearch go through."""

    def fault(self) -> ProxyFault:
        raise NotImplementedError

    async def begin(self) -> None:
        self._there = self.fault()
        self.world.elastic.faults.append(self._there)

    async def heal(self) -> None:
        if self._there in self.world.elastic.faults:
            self.world.elastic.faults.remove(self._there)


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


class DocumentsRefused(ProxyRefusal):
    """Some accounts' documents are refused for good, so they are parked; healed by a retry."""

    def fault(self) -> ProxyFault:
        tail = self.chance.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
        return ItemErrors(
            lambda item: _UNFIT if item.id.endswith(tail) and len(item.id) == _ULID else None
        )

    async def heal(self) -> None:
        await super().heal()
        await eventually(self._retried, seconds=_RETRY_SECONDS, every=0.5)

    async def _retried(self) -> bool:
        status, body = await self.world.ask_balances("GET", "/parked")
        if status != 200:
            return False
        for each in body["data"]:
            await self.world.ask_balances("POST", f"/parked/{each['account_id']}/retry")
        return not body["data"]


REFUSALS: Final[dict[str, Maker]] = {
    "elasticsearch-429": TooBusy,
    "elasticsearch-503": Unavailable,
    "items-busy": ItemsBusy,
    "documents-refused": DocumentsRefused,
}
