"""The servers of a run: its own ones, or by URL; everything in them is the run's, and is wiped.

BANK_TEST_MONGODB_URL, …_NATS_URL, …_REDIS_URL and …_ELASTICSEARCH_URL, or BANK_MONGODB_URL, …, put
another in the place of one. It must hold no bank: a run that finds one leaves it alone.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import redis.asyncio

from benchmarks.checkout import Checkout
from benchmarks.machine import cpu_seconds
from pipeline.embedded.processes import Children
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.servers import EmbeddedServers
from pipeline.embedded.startup_checks import free_ports
from pipeline.eventstore import driver
from pipeline.messaging import JetStream
from pipeline.search import Elastic
from pipeline.support.settings import PREFIX, TEST_PREFIX, Settings

INDEXES: Final = "balance*,statement*,bank-*,bench-*,faststream*,faust*"


class NotEmpty(Exception):
    """A server that was named holds something: it may be somebody's bank."""


def given_urls() -> dict[str, str]:
    """The servers that the environment names, by kind."""
    found: dict[str, str] = {}
    for name in SERVER_BINARIES:
        for prefix in (TEST_PREFIX, PREFIX):
            if url := os.environ.get(f"{prefix}{name.upper()}_URL", "").split():
                found.setdefault(name, url[0])
    return found


class Bank:
    """The servers. `fresh` gives a measure a bank without accounts on them."""

    def __init__(
        self,
        settings: Settings,
        servers: EmbeddedServers,
        children: Children,
        beside: Checkout | None,
    ) -> None:
        self.children, self.embedded = children, set(servers.servers)
        self.pids = {name: server.pid for name, server in servers.servers.items()}
        self.beside = beside
        """Whose roles are measured in turns with ours."""
        self._settings, self._number = settings, 0

    def used(self) -> dict[str, float]:
        """Processor seconds that each embedded server has used so far, by kind."""
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}

    async def fresh(self, **changes: object) -> Settings:
        """Settings of a bank in which nothing has happened yet, with one projection."""
        await self.wipe()
        self._number += 1
        changes = {"mongodb_database": f"bench-{os.getpid()}-{self._number}", **changes}
        return self._settings.model_copy(update=changes)

    async def wipe(self) -> None:
        """Remove all that a bank leaves in the servers."""
        settings = self._settings
        await asyncio.gather(
            _wipe_nats(settings.nats_url),
            _wipe_redis(settings.redis_url),
            _wipe_elasticsearch(settings.elasticsearch_url),
        )
        if "mongodb" not in self.embedded:  # an embedded one's folder goes as a whole
            client = driver.client(settings.mongodb_url)
            await client.drop_database(f"bench-{os.getpid()}-{self._number}")
            client.close()

    async def require_empty(self) -> None:
        """Raise `NotEmpty` if a server that is not ours holds what `wipe` would remove."""
        js = await JetStream.connect(self._settings.nats_url, "benchmark")
        elastic = Elastic(self._settings.elasticsearch_url)
        try:
            streams = [each.config.name for each in await js.context.streams_info()]
            indexes = list((await elastic.client.indices.get(index=INDEXES)).body)
            async with redis.asyncio.from_url(self._settings.redis_url) as client:
                keys = await client.dbsize()
        finally:
            await elastic.close()
            await js.close()
        if streams or indexes or keys:
            raise NotEmpty(
                f"the servers named hold streams {streams}, indexes {indexes} and {keys} keys in "
                "Redis, which a benchmark would delete: name empty ones"
            )


@asynccontextmanager
async def bank(given: dict[str, str], beside: Checkout | None = None) -> AsyncIterator[Bank]:
    """The servers that are given, the others started here, in a folder that goes with them."""
    with tempfile.TemporaryDirectory(prefix="bank-bench-") as folder:
        ports = free_ports("127.0.0.1")
        own = {
            f"{name}_url": f"{wheel.scheme}://127.0.0.1:{next(ports)}"
            for name, wheel in SERVER_BINARIES.items()
        }
        urls = own | {f"{name}_url": url for name, url in given.items()}
        places = {"data_dir": Path(folder), "projections": "balance", "lease_seconds": 5}
        settings = Settings.model_validate({**places, **urls})
        servers = EmbeddedServers(settings, [name for name in SERVER_BINARIES if name not in given])
        await servers.start()
        children = Children()
        try:
            run = Bank(settings, servers, children, beside)
            await run.require_empty()
            yield run
            await run.wipe()
        finally:
            await children.close()
            await servers.stop()


async def _wipe_nats(url: str) -> None:
    js = await JetStream.connect(url, "benchmark")
    try:
        for info in await js.context.streams_info():
            await js.context.delete_stream(str(info.config.name))
    finally:
        await js.close()


async def _wipe_redis(url: str) -> None:
    async with redis.asyncio.from_url(url) as client:
        await client.flushall()


async def _wipe_elasticsearch(url: str) -> None:
    """Each by its name: Elasticsearch wants it so."""
    elastic = Elastic(url)
    try:
        for name in (await elastic.client.indices.get(index=INDEXES)).body:
            await elastic.client.indices.delete(index=name)
    finally:
        await elastic.close()
