"""A Redis that is not the right one any more, behind a name that leads to the one that is.

Connections that are open stay with the old server, which answers each command with an error.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis.asyncio

from pipeline.coordination.leases import FORWARDER, Lease, LeaseUnavailable
from pipeline.coordination.partition_leases import name_of
from pipeline.coordination.worker_registry import RegistryReader
from pipeline.embedded.servers import EmbeddedServers
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.conftest import placed
from tests.harness import eventually, rounds
from tests.invariants import invariants_hold
from tests.outages import Bank
from tests.proxy import TcpProxy

PARTITIONS = 4


class Pair:
    """Two servers, and the way that leads to the first one until `fail_over`."""

    def __init__(self, old: str, new: str, way: TcpProxy) -> None:
        self.old, self.new, self.way = old, new, way

    async def at_old(self, *command: str | int) -> None:
        async with redis.asyncio.from_url(self.old) as client:
            await client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def fail_over(self, *command: str | int) -> None:
        """Make the old server unfit by a command; the way leads to the new one from now on."""
        self.way.lead_to(self.new)
        await self.at_old(*(command or self.replica_of_new()))

    def replica_of_new(self) -> tuple[str, ...]:
        host, _, port = self.new.removeprefix("redis://").partition(":")
        return ("REPLICAOF", host, port)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        urls = []
        for name in ("old", "new"):
            embedded = EmbeddedServers(placed(tmp_path / name), ["redis"])
            await embedded.start()
            stack.push_async_callback(embedded.stop)
            urls.append(embedded.servers["redis"].url)
        yield Pair(urls[0], urls[1], await stack.enter_async_context(TcpProxy(urls[0])))


READONLY: tuple[str | int, ...] = ()
OOM = ("CONFIG", "SET", "maxmemory", 1)
NOREPLICAS = ("CONFIG", "SET", "min-replicas-to-write", 1)


@pytest.mark.parametrize("command", [READONLY, OOM, NOREPLICAS])
async def test_after_one_refusal_each_use_goes_to_the_new_one(
    pair: Pair, command: tuple[str | int, ...]
) -> None:
    lease = Lease(pair.way.url, "test", "ours", 2.0)
    leases = RegistryReader(pair.way.url, "w.1", 2.0)
    assert await lease.acquire()
    assert await leases.acquire(PARTITIONS, [1, 2]) == {1, 2}
    await pair.fail_over(*command)
    for use in (lease.acquire, lambda: leases.beat(PARTITIONS, [1, 2])):
        with pytest.raises(LeaseUnavailable):
            await use()
        await use()
    assert (await leases.read(PARTITIONS)).owners == (None, "w.1", "w.1", None)
    assert "w.1" in (await leases.registry()).beats
    async with redis.asyncio.from_url(pair.new) as client:
        assert await client.get("bank:lease:test") == b"ours"
    await lease.release()
    await leases.leave(PARTITIONS)
    await asyncio.gather(lease.close(), leases.close())


async def test_who_reads_only_leaves_a_replica_without_its_primary(pair: Pair) -> None:
    """MASTERDOWN, which reads get as well."""
    leases = RegistryReader(pair.way.url, "reader", 2.0)
    await leases.read(PARTITIONS)
    await pair.at_old("CONFIG", "SET", "replica-serve-stale-data", "no")
    await pair.fail_over("REPLICAOF", "127.0.0.1", 1)
    for use in (lambda: leases.read(PARTITIONS), leases.registry, lambda: leases.holder("test")):
        pair.way.lead_to(pair.old)
        await leases._redis.connection_pool.disconnect()
        with pytest.raises(LeaseUnavailable):
            await use()
        pair.way.lead_to(pair.new)
        await use()
    await leases.close()


@pytest.mark.parametrize(
    "error",
    [
        "LOADING Redis is loading",
        "CLUSTERDOWN Hash slot not served",
        "BUSY",
        "UNKILLABLE",
        "MOVED 1 h:1",
    ],
)
async def test_whatever_the_error_is(pair: Pair, error: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"*"):
                writer.write(f"-{error}\r\n".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as unfit:
        pair.way.lead_to(f"redis://127.0.0.1:{unfit.sockets[0].getsockname()[1]}")
        lease = Lease(pair.way.url, "test", "ours", 2.0)
        with pytest.raises(LeaseUnavailable):
            await lease.acquire()
        pair.way.lead_to(pair.new)
        assert await lease.acquire()
        await lease.close()


@pytest.mark.drill
@pytest.mark.timeout(rounds(240, 900))
async def test_a_bank_goes_on_with_the_new_primary(pair: Pair, settings: Settings) -> None:
    """The second worker is killed when the first one was moved: then it has all partitions."""
    told = settings.model_copy(update={"redis_url": pair.old})
    async with Bank(told, redis_url=pair.way.url) as bank:
        async with bank.load.steady(50):
            began = time.monotonic()
            await pair.fail_over()
            reader = RegistryReader(pair.new, "reader", settings.lease_seconds)

            async def moved() -> bool:
                owners = (await reader.read(settings.partitions)).owners
                return None not in owners and await reader.holder(FORWARDER) is not None

            await eventually(moved)
            took = time.monotonic() - began
            assert took < 2 * settings.lease_seconds, took
            await bank.workers["w2"].kill()

            async def alone() -> bool:
                owners = (await reader.read(settings.partitions)).owners
                return {name_of(owner or "") for owner in owners} == {"w1"}

            await eventually(alone)
        await eventually(lambda: exact(settings.elasticsearch_url, bank.store), seconds=60)
        await reader.close()
    await invariants_hold(settings)
