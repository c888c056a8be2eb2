"""Elasticsearch's bulks: which index they write, and errors for some of their items alone."""

import json
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from tests.proxy.faults import Match, answer
from tests.proxy.http import Forward, Reply, Request


@dataclass(frozen=True, slots=True)
class Item:
    """One action of a bulk: `index`, `create`, `update` or `delete`, and its lines as they came."""

    action: str
    index: str
    id: str
    lines: bytes


@dataclass(frozen=True, slots=True)
class ItemError:
    status: int
    type: str
    reason: str


def is_bulk(request: Request) -> bool:
    return request.path.rpartition("/")[2] == "_bulk"


def items_of(request: Request) -> list[Item]:
    """The items of a bulk, in order."""
    lines = iter(request.body.splitlines(keepends=True))
    default = request.path.strip("/").rpartition("/")[0]
    items = []
    for line in lines:
        ((action, meta),) = json.loads(line).items()
        source = next(lines) if action != "delete" else b""
        items.append(Item(action, meta.get("_index", default), meta.get("_id", ""), line + source))
    return items


def writes_to(prefix: str) -> Match:
    """Matches the bulks that write an index or alias whose name begins so."""
    return lambda request: (
        is_bulk(request) and any(item.index.startswith(prefix) for item in items_of(request))
    )


class ItemErrors:
    """Fails those items of every bulk that `judge` has an error for; the others go through."""

    def __init__(self, judge: Callable[[Item], ItemError | None]) -> None:
        self.judge = judge
        self.count = 0

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        if not is_bulk(request):
            return await forward(request)
        items = items_of(request)
        errors = {n: error for n, item in enumerate(items) if (error := self.judge(item))}
        if not errors:
            return await forward(request)
        self.count += len(errors)
        passed = b"".join(item.lines for n, item in enumerate(items) if n not in errors)
        if not passed:
            return answer(200, _with_errors({"took": 0, "items": []}, items, errors))
        reply = await forward(replace(request, body=passed))
        if reply.status != 200:
            return reply
        body = _with_errors(json.loads(reply.body), items, errors)
        return replace(reply, body=json.dumps(body).encode())


def busy_items(share: float, status: int = 429, *, seed: int = 1) -> ItemErrors:
    """A share of all items is refused for now."""
    chance = random.Random(seed)
    error = ItemError(status, "es_rejected_execution_exception", "a fault of the proxy")
    return ItemErrors(lambda _: error if chance.random() < share else None)


def refused(ids: Collection[str]) -> ItemErrors:
    """Documents with these ids are refused for good, as the mapping would."""
    error = ItemError(400, "document_parsing_exception", "failed to parse: a fault of the proxy")
    return ItemErrors(lambda item: error if item.id in ids else None)


def _with_errors(
    body: dict[str, Any], items: list[Item], errors: dict[int, ItemError]
) -> dict[str, Any]:
    """The server's answer for the items that passed, with the others' errors in their places."""
    answered = iter(body["items"])
    merged = [
        _failed(item, errors[n]) if n in errors else next(answered) for n, item in enumerate(items)
    ]
    return {**body, "errors": True, "items": merged}


def _failed(item: Item, error: ItemError) -> dict[str, Any]:
    what = {"type": error.type, "reason": error.reason}
    found = {"_index": item.index, "_id": item.id, "status": error.status, "error": what}
    return {item.action: found}


def statuses(reply: Reply) -> list[int]:
    """The status of each item that the server answered to a bulk."""
    return [found["status"] for item in json.loads(reply.body)["items"] for found in item.values()]
