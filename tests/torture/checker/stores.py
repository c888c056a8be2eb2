"""The stores as they are: all events, all documents, the whole log. Raises the drivers' errors.

URLs of NATS and Elasticsearch may be lists with commas between: any node that answers will do.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import aiohttp
from nats.js.api import AckPolicy, ConsumerConfig
from pymongo import MongoClient

from tests.torture.checker.fold import Event
from tests.torture.checker.personal import Key, opened
from tests.torture.nodes import connected, one_that_answers

_PAGE: Final = 1000
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Shown:
    """A document in the index, with Elasticsearch's own `_version`."""

    version: int
    source: dict[str, Any]


async def histories(url: str, database: str) -> dict[str, list[Event]]:
    """Every event by account, in order of its version."""

    def read() -> list[Event]:
        with MongoClient[Event](url, directConnection=True, retryWrites=False) as client:
            return list(client[database]["events"].find())

    found: dict[str, list[Event]] = {}
    stored = await asyncio.to_thread(read)
    known = await keys(url, database)
    for event in stored:
        found.setdefault(event["account_id"], []).append(opened(event, known))
    for events in found.values():
        events.sort(key=lambda event: event["version"])
    return found


async def keys(url: str, database: str) -> dict[str, Key]:
    """The keys of personal fields, by account."""

    def read() -> dict[str, Key]:
        with MongoClient[Key](url, directConnection=True, retryWrites=False) as client:
            return {each["_id"]: each for each in client[database]["subject_keys"].find()}

    return await asyncio.to_thread(read)


async def raw(urls: dict[str, str], database: str, stream: str) -> dict[str, str]:
    """All that MongoDB, a stream and the projections' indexes have, as texts by place."""

    def read() -> dict[str, str]:
        with MongoClient[Event](
            urls["mongodb"], directConnection=True, retryWrites=False
        ) as client:
            collections = client[database]
            return {
                name: json.dumps(list(collections[name].find()), default=str)
                for name in collections.list_collection_names()
            }

    found = await asyncio.to_thread(read)
    found[stream] = json.dumps([each.event for each in await log(urls["nats"], "", stream)])
    indexes = {index for each in (await aliases(urls["elasticsearch"])).values() for index in each}
    for index in sorted(indexes):
        if not index.startswith("bank-"):
            shown = await documents(urls["elasticsearch"], index)
            found[index] = json.dumps([each.source for each in shown.values()])
    return found


async def documents(url: str, index: str, **options: str) -> dict[str, Shown]:
    """Everything that an index or alias holds, by id; nothing if it is not there. `options` are
    those of the search."""
    found: dict[str, Shown] = {}
    node, timeout = await one_that_answers(url), aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(node, timeout=timeout) as http:
        async with http.post(f"/{index}/_refresh"):
            pass
        query: dict[str, Any] = {"size": _PAGE, "version": True, "sort": [{"id": "asc"}]}
        while True:
            async with http.post(f"/{index}/_search", params=options, json=query) as answer:
                if answer.status == 404:
                    return {}
                hits = (await answer.json())["hits"]["hits"]
            found |= {hit["_id"]: Shown(hit["_version"], hit["_source"]) for hit in hits}
            if len(hits) < _PAGE:
                return found
            query["search_after"] = hits[-1]["sort"]


async def aliases(url: str) -> dict[str, list[str]]:
    """The indexes of every alias, in order of their names."""
    found: dict[str, list[str]] = {}
    node = await one_that_answers(url)
    async with aiohttp.ClientSession(node) as http, http.get("/_alias") as answer:
        for index, about in sorted((await answer.json()).items()):
            for alias in about["aliases"]:
                found.setdefault(alias, []).append(index)
    return found


async def unique_keys(url: str, database: str) -> list[dict[str, Any]]:
    """The unique indexes of `events`, as MongoDB describes them, each with the number of events
    that it should have and lacks (`lacking`). The embedded server can list a part of an index."""

    def read() -> list[dict[str, Any]]:
        with MongoClient[Event](url, directConnection=True, retryWrites=False) as client:
            events = client[database]["events"]
            unique = [dict(each) for each in events.list_indexes() if each.get("unique")]
            stored = list(events.find())
            for each in unique:
                wanted = [e for e in stored if not each.get("sparse") or {*each["key"]} & {*e}]
                hint = {} if each.get("hidden") else {"hint": each["name"]}
                query = each.get("partialFilterExpression", {})
                each["lacking"] = len(wanted) - events.count_documents(query, **hint)
            return unique

    return await asyncio.to_thread(read)


class Logged(NamedTuple):
    """A message of the log; `event` is None for what is none, such as a marker."""

    sequence: int
    event: Event | None
    resync: bool


async def log(url: str, marked: str, stream: str = "balance") -> list[Logged]:
    """A whole stream in its order, without what bears the header `marked`."""
    client = await connected(url)
    found: list[Logged] = []
    try:
        js = client.jetstream()
        config = ConsumerConfig(ack_policy=AckPolicy.NONE)
        subscription = await js.pull_subscribe(f"{stream}.*", stream=stream, config=config)
        left = (await subscription.consumer_info()).num_pending or 0
        while left > 0:
            messages = await subscription.fetch(min(_BATCH, left), timeout=10)
            left -= len(messages)
            for message in messages:
                sequence = message.metadata.sequence.stream
                told = {} if marked in (message.headers or {}) else _json(message.data)
                event = told if "account_id" in told else None
                found.append(Logged(sequence, event, told.get("kind") == "resync"))
        await subscription.unsubscribe()
    finally:
        await client.close()
    return found


async def replicas(url: str) -> dict[str, int]:
    """On how many servers each stream of JetStream is configured to be, buckets among them."""
    client = await connected(url)
    try:
        streams = await client.jetstream().streams_info()
        return {str(each.config.name): each.config.num_replicas or 0 for each in streams}
    finally:
        await client.close()


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
