"""Redis fails over: its name leads to another server, and who was connected stays connected."""

import signal
from contextlib import AsyncExitStack
from typing import Any, Final

import redis.asyncio

from pipeline.embedded.servers import Server
from tests.harness import eventually
from tests.torture.faults.base import Fault, Maker
from tests.torture.servers import Embedded

_SECONDS: Final = 15.0


class RedisFailover(Fault):
    """The spare one catches up, becomes the primary, and the name leads there. The old one is its
    replica from then on and refuses to write (READONLY), but ends no connection. It stays so until
    the next failover, which begins with a restart of the spare one: who was still connected to it
    has to look up the name, and must do so once more."""

    async def begin(self) -> None:
        servers = self.world.servers
        assert isinstance(servers, Embedded)
        old, new = servers.single["redis"], servers.spare
        await new.kill(signal.SIGTERM)
        await new.start()
        async with AsyncExitStack() as stack:
            before, after = [await stack.enter_async_context(_client(each)) for each in (old, new)]
            await before.config_set("repl-diskless-sync-delay", 0)
            await after.replicaof(old.host, old.port)
            await eventually(lambda: _in_step(after), seconds=_SECONDS)
            await after.replicaof("NO", "ONE")
            await before.replicaof(new.host, new.port)
        url = servers.exchange_redis()
        for way in self.world.ways.to_target("redis"):
            way.lead_to(url)


def _client(server: Server) -> redis.asyncio.Redis:
    return redis.asyncio.from_url(server.url, socket_timeout=3.0)


async def _in_step(replica: redis.asyncio.Redis) -> bool:
    about: dict[str, Any] = await replica.info("replication")
    return about.get("master_link_status") == "up"


FAILOVERS: Final[dict[str, Maker]] = {"redis-failover": RedisFailover}
