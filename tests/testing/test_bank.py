"""What is deleted before a test: all that the application has on the servers, and nothing else."""

import asyncio

import pytest

from pipeline.coordination import driver as redis
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.messaging import JetStream
from pipeline.search import client as elasticsearch
from pipeline.support.settings import Settings
from pipeline.testing.bank import settings_on

POST = "tests.apps.post:POST"
OWN = {
    "streams": {"post-log", "post-audit", "post-happenings", "KV_post-rebuild-scans"},
    "keys": {"post:lease:forwarder", "post:{partitions}:workers"},
    "indexes": {"post-places-1", "post-places-2", "post-scans", "post-checkpoints"},
}
OTHERS = {
    "streams": {"balance", "KV_keys", "postal-log", "orders"},
    "keys": {"bank:lease:forwarder", "postal:lease:forwarder", "session"},
    "indexes": {"balance-1", "bank-checkpoints", "post-placeshere-1"},
}


async def make(settings: Settings) -> None:
    js = await JetStream.connect(settings.nats, "test")
    for name in OWN["streams"] | OTHERS["streams"]:
        await js.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"of.{name}"]})
    await js.close()
    async with redis.client(settings.redis) as client:
        for key in OWN["keys"] | OTHERS["keys"]:
            await client.set(key, "1")
    async with elasticsearch.connect(settings.elasticsearch) as elastic:
        for index in OWN["indexes"] | OTHERS["indexes"]:
            await elastic.indices.create(index=index)


async def found(settings: Settings) -> dict[str, set[str]]:
    """Of those that were made."""
    js = await JetStream.connect(settings.nats, "test")
    streams = {*((await js.api("STREAM.NAMES"))["streams"] or ())}
    await js.close()
    async with redis.client(settings.redis, decode_responses=True) as client:
        keys = {key async for key in client.scan_iter()}
    async with elasticsearch.connect(settings.elasticsearch) as elastic:
        indexes = {*await elastic.indices.get_alias()}
    there = {"streams": streams, "keys": keys, "indexes": indexes}
    return {each: names & (OWN[each] | OTHERS[each]) for each, names in there.items()}


@pytest.mark.elasticsearch
def test_what_others_have_on_the_servers_stays(settings: Settings) -> None:
    urls = {f"{each}_url": getattr(settings, f"{each}_url") for each in SERVER_BINARIES}
    with settings_on(urls, POST) as before:
        asyncio.run(make(before))
        assert asyncio.run(found(before)) == {each: OWN[each] | OTHERS[each] for each in OWN}
    with settings_on(urls, POST) as after:
        assert asyncio.run(found(after)) == OTHERS
