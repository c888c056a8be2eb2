"""A closed index, as Elasticsearch has it: the embedded server refuses searches and single reads of
one, but not the items of bulks and mgets."""

import json
from collections.abc import Collection
from fnmatch import fnmatchcase

from tests.proxy.bulk import Item, ItemError, ItemErrors
from tests.proxy.faults import answer
from tests.proxy.http import Forward, Reply, Request

_TYPE = "index_closed_exception"


class ClosedIndex:
    """Refuses items that name the index or one of its aliases, until somebody opens it."""

    def __init__(self, index: str, aliases: Collection[str]) -> None:
        self.index, self.names, self.closed = index, {index, *aliases}, True
        self._bulks = ItemErrors(self._judge)

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        targets, _, verb = request.path.strip("/").rpartition("/")
        if verb == "_open" and any(
            fnmatchcase(name, target) for name in self.names for target in targets.split(",")
        ):
            return await self._opened(request, forward)
        if verb == "_mget" and targets in self.names and self.closed:
            return answer(200, {"docs": [self._unread(targets, i) for i in _ids(request)]})
        return await self._bulks(request, forward)

    async def _opened(self, request: Request, forward: Forward) -> Reply:
        reply = await forward(request)
        self.closed = self.closed and reply.status != 200
        return reply

    def _judge(self, item: Item) -> ItemError | None:
        if self.closed and item.index in self.names:
            return ItemError(400, _TYPE, "closed")
        return None

    def _unread(self, name: str, document: str) -> dict[str, object]:
        error = {"type": _TYPE, "reason": "closed", "index": self.index}
        return {"_index": name, "_id": document, "error": {"root_cause": [error], **error}}


def _ids(request: Request) -> list[str]:
    ids: list[str] = json.loads(request.body)["ids"]
    return ids
