"""Every name of a running bank, against a list of those that banks have: no data moves."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import pymongo
import pytest
import redis.asyncio
from elasticsearch import ApiError, TransportError
from nats.aio.msg import Msg

from pipeline.banking.balance import BALANCE
from pipeline.banking.statement import STATEMENT
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.operations import keys
from pipeline.search import Elastic
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccountList
from tests.bank import accounts, append, exact
from tests.harness import Role, eventually

Start = Callable[..., Awaitable[Role]]
Names = dict[str, set[str]]

# Taken from a bank of the release before applications; a name that changes is data that is lost.
STREAMS: Final = {
    "KV_bank": "$KV.bank.>",
    "KV_key-uses": "$KV.key-uses.>",
    "KV_keys": "$KV.keys.>",
    "KV_parked": "$KV.parked.>",
    "KV_parked-statement": "$KV.parked-statement.>",
    "KV_partitions": "$KV.partitions.>",
    "KV_partitions-statement": "$KV.partitions-statement.>",
    "KV_rebuild": "$KV.rebuild.>",
    "KV_rebuild-statement": "$KV.rebuild-statement.>",
    "audit": "audit.*",
    "balance": "balance.*",
    "bank-activity-changelog": "bank-activity-changelog.*.>",
}
SUBJECTS: Final = {"balance.0", "balance.1", "balance.2", "balance.partitions", "balance.token"}
CONSUMERS: Final = {f"{name}-{p}" for name in ("balance", "statement") for p in range(3)}
INDEXES: Final = {
    "balance": {"balance-1", "balance-2"},
    "balance-building": {"balance-2"},
    "balance-g1": {"balance-1"},
    "balance-g2": {"balance-2"},
    "bank-checkpoints-live": {"bank-checkpoints"},
    "statement": {"statement-1", "statement-2"},
    "statement-building": {"statement-2"},
    "statement-g1": {"statement-1"},
    "statement-g2": {"statement-2"},
}
KEYS: Final = {
    "bank:lease:forwarder",
    "bank:lease:process-holds",
    "bank:lease:rebuild",
    "bank:lease:rebuild-statement",
    "bank:{partitions}:0",
    "bank:{partitions}:1",
    "bank:{partitions}:2",
    "bank:{partitions}:began",
    "bank:{partitions}:workers",
}
PLAIN: Final = {
    "bank.news.leases",
    *(f"bank.news.{stream}" for stream in STREAMS if stream.startswith("KV_")),
    "bank.written.balance.N.N",
    "bank.written.statement.N.N",
}
COLLECTIONS: Final = {"events", "processes", "subject_keys"}
MIDST: Final = INDEXES | {"balance": {"balance-1"}, "statement": {"statement-1"}}
"""While both projections are rebuilt."""


class Seen:
    """Names that come and go, as they were seen."""

    def __init__(self) -> None:
        self.indexes: Names = {}
        self.keys: set[str] = set()
        self.plain: set[str] = set()

    async def note(self, message: Msg) -> None:
        self.plain.add(re.sub(r"\.\d+", ".N", message.subject))


@asynccontextmanager
async def watched(settings: Settings, js: JetStream) -> AsyncIterator[Seen]:
    seen, stop = Seen(), asyncio.Event()
    await js.nc.subscribe("bank.>", cb=seen.note)
    elastic = Elastic(settings.elasticsearch_url)
    client = redis.asyncio.from_url(settings.redis_url, decode_responses=True)

    async def look() -> None:
        for name, about in (await elastic.client.indices.get(index="*")).items():
            for alias in about["aliases"]:
                seen.indexes.setdefault(alias, set()).add(name)
        seen.keys |= {key async for key in client.scan_iter()}

    async def watch() -> None:
        while not stop.is_set():
            with suppress(ApiError, TransportError, redis.RedisError):  # it looks again
                await look()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await stop.wait()

    async with client, asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        yield seen
        stop.set()
    await elastic.close()


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_a_bank_has_the_names_that_it_had(
    settings: Settings, store: EventStore, js: JetStream, role: Start
) -> None:
    environ = {"BANK_PROJECTIONS": "balance statement", "BANK_PARTITIONS": "2"}
    environ["BANK_TOKEN_SECONDS"] = "1"
    async with watched(settings, js) as seen:
        await role("bank", "forwarder", **environ)
        stalled = await role("bank", "worker", **environ, BANK_REBUILD_RATE="0.001")
        await append(store, accounts(30))
        for each in (BALANCE, STATEMENT):
            await eventually(
                lambda each=each: exact(settings.elasticsearch_url, store, each)  # type: ignore[misc]
            )

        async def run(*words: str) -> None:
            command = await role("bank", *words, **environ)
            assert await command.wait() == 0, command.log()

        await run("repartition", "3")
        await run("keys", "create", "--role", "teller")
        for name in ("balance", "statement"):
            await run("rebuild", "--projection", name)
        # Neither comes to its end, so that nobody can be too slow to see its names.
        await eventually(lambda: same(seen.indexes, MIDST))
        await eventually(lambda: same(seen.keys, KEYS))
        await stalled.kill()
        await role("bank", "worker", **environ)
        for name in ("balance", "statement"):
            await run("rebuild", "--projection", name, "status", "--wait")
        await keys.use(js, "0123456789abcdef", "2026-01-31")
        for each in (BALANCE, STATEMENT):
            of = {"version": 1, "event_id": "e", "kind": "k", "reason": "r"}
            await ParkedAccountList(js, each).park("01J00000000000000000000000", **of)  # type: ignore[arg-type]
        await store.keys.obtain("01J00000000000000000000000", 0)
        await append(store, accounts(30))
        await eventually(lambda: in_jetstream(js))
        await eventually(lambda: same(seen.indexes, INDEXES))
        await eventually(lambda: same(seen.plain, PLAIN))
    assert seen.keys == KEYS
    assert await asyncio.to_thread(collections, settings) == COLLECTIONS
    assert Settings().mongodb_database == "bank"


def collections(settings: Settings) -> set[str]:
    with pymongo.MongoClient[dict[str, object]](settings.mongodb_url, retryWrites=False) as client:
        return {*client[settings.mongodb_database].list_collection_names()}


def same(found: object, wanted: object) -> bool:
    assert found == wanted
    return True


async def in_jetstream(js: JetStream) -> bool:
    streams = [each["config"] for each in (await js.api("STREAM.LIST"))["streams"]]
    assert {each["name"]: " ".join(each["subjects"]) for each in streams} == STREAMS
    info = await js.api("STREAM.INFO.balance", {"subjects_filter": ">"})
    assert info["state"]["subjects"].keys() == SUBJECTS
    assert {*(await js.api("CONSUMER.NAMES.balance"))["consumers"]} == CONSUMERS
    return True
