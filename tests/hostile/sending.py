"""All of it sent, to a bank at work."""

import asyncio
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import redis.asyncio
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from pymongo.errors import DuplicateKeyError, WriteError
from redis.exceptions import RedisError
from yarl import URL

from pipeline.eventstore import driver
from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket
from pipeline.operations import audit, keys
from pipeline.support.settings import Settings
from tests.harness import rounds
from tests.hostile.documents import Documents
from tests.hostile.messages import Messages
from tests.hostile.requests import Requests

OVER_HTTP: Final = rounds(500, 5000)
OVER_NATS: Final = rounds(300, 3000)
IN_MONGODB: Final = rounds(200, 1800)
IN_REDIS: Final = rounds(30, 100)
IN_ELASTICSEARCH: Final = rounds(30, 100)
AT_ONCE: Final = 20

Json = dict[str, Any]


async def all_at_once(
    seed: str, events: list[Json], settings: Settings
) -> tuple[list[str], list[Json]]:
    """Send them: what was answered that should not have been, and what MongoDB took."""
    wrong, _, written, *_ = await asyncio.gather(
        over_http(Requests(seed, events), settings),
        over_nats(Messages(seed, events), settings),
        in_mongodb(Documents(seed, events), settings),
        in_redis(Documents(f"{seed} redis", events), settings),
        in_elasticsearch(Documents(f"{seed} elasticsearch", events), settings),
    )
    return wrong, written


async def over_http(bad: Requests, settings: Settings) -> list[str]:
    """What was answered that should not have been."""
    ports = {"accounts": settings.accounts_port, "balances": settings.balances_port}
    wrong: list[str] = []

    async def one(service: str, request: bytes) -> None:
        status = await answered(ports[service], request)
        sound = request.startswith((b"GET ", b"HEAD "))
        if status >= 500 or (200 <= status < 300 and not sound):
            wrong.append(f"{status} for {service} {request[:300]!r}")

    for _ in range(OVER_HTTP // AT_ONCE):
        services = bad.chance.choices(list(ports), k=AT_ONCE)
        await asyncio.gather(*(one(each, bad.request(each)) for each in services))
    return wrong


async def answered(port: int, request: bytes) -> int:
    """The status of the answer; 0 for a connection that was closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(60):
            line = await reader.readline()
        return int(line.split()[1]) if line else 0
    except ConnectionError:
        return 0
    finally:
        writer.close()


async def over_nats(bad: Messages, settings: Settings) -> int:
    """How many messages a stream took; for some subjects there is none."""
    js = await JetStream.connect(settings.nats_url, "hostile")
    taken = 0
    try:
        await audit.ensure(js, settings)
        for name in (keys.BUCKET, keys.USES):
            await Bucket(js, name).ensure()
        for _ in range(OVER_NATS):
            subject, payload, headers = bad.message()
            with suppress(JetStreamError, NatsError):
                await js.context.publish(subject, payload, headers=headers, timeout=20)
                taken += 1
    finally:
        await js.close()
    return taken


async def in_mongodb(bad: Documents, settings: Settings) -> list[Json]:
    """The documents that were taken."""
    client = driver.client(settings.mongodb_url, retryWrites=False)
    events = client[settings.mongodb_database]["events"]
    written = []
    try:
        for _ in range(IN_MONGODB):
            document = bad.document()
            with suppress(DuplicateKeyError, WriteError):
                await events.insert_one(document)
                written.append(document)
    finally:
        client.close()
    return written


async def in_redis(bad: Documents, settings: Settings) -> None:
    async with redis.asyncio.from_url(settings.redis_url) as client:
        for _ in range(IN_REDIS):
            with suppress(RedisError):  # the key is of another type already
                await client.execute_command(*bad.lease())  # type: ignore[no-untyped-call]
            await asyncio.sleep(0.05)


async def in_elasticsearch(bad: Documents, settings: Settings) -> None:
    async with aiohttp.ClientSession(settings.elasticsearch_url) as http:
        for _ in range(IN_ELASTICSEARCH):
            index, key, source, version = bad.projected()
            where = {"version": str(version), "version_type": "external"}
            url = URL(f"/{index}/_doc/{quote(key, safe='')}", encoded=True).with_query(where)
            async with http.put(url, json=source) as answer:
                await answer.read()
            await asyncio.sleep(0.05)
