"""A sentinel that names a server which is not the primary, and one that is no sentinel."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions

from pipeline.coordination import driver
from pipeline.coordination.leases import Lease, LeaseUnavailable
from pipeline.coordination.partition_leases import PartitionLeases
from pipeline.embedded.processes import Children, small_environment
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.support.retry import Outage
from tests.harness import eventually
from tests.ports import free_port

log = logging.getLogger(__name__)

NAME = "bank"
LONG = 600_000
"""Milliseconds for which the sentinel that lies believes its own primary."""
_REDIS = SERVER_BINARIES["redis"]


class Lying:
    """A primary with a replica; a sentinel for each, which takes that one for the primary."""

    def __init__(self, folder: Path, children: Children) -> None:
        self._folder, self._children = folder, children
        self.primary, self.replica = free_port(), free_port()
        self.honest, self.lying = free_port(), free_port()

    async def start(self) -> None:
        self._serve(self.primary)
        self._serve(self.replica, "--replicaof", f"127.0.0.1 {self.primary}")
        await eventually(self._follows)
        self._watch(self.honest, self.primary)
        self._watch(self.lying, self.replica)
        await eventually(lambda: self._says(self.honest, self.primary))
        await eventually(lambda: self._says(self.lying, self.replica))

    def _serve(self, port: int, *more: str) -> None:
        folder = self._folder / str(port)
        folder.mkdir()
        command = _REDIS.command("127.0.0.1", port, folder)
        self._run(port, [*command, "--repl-diskless-sync-delay", "0", *more])

    def _watch(self, port: int, primary: int) -> None:
        file = self._folder / f"{port}.conf"
        file.write_text(
            f"bind 127.0.0.1\nport {port}\nsentinel monitor {NAME} 127.0.0.1 {primary} 1\n"
            f"sentinel down-after-milliseconds {NAME} {LONG}\n"
        )
        self._run(port, [_REDIS.command("127.0.0.1", port, self._folder)[0], file, "--sentinel"])

    def _run(self, port: int, command: list[str | Path]) -> None:
        log = self._folder / f"{port}.log"
        self._children.start(str(port), command, env=small_environment(), log=log)

    async def _follows(self) -> bool:
        async with redis.asyncio.Redis(port=self.replica) as client:
            found = await client.info("replication")
            return bool(found["role"] == "slave" and found["master_link_status"] == "up")

    async def _says(self, sentinel: int, primary: int) -> bool:
        async with redis.asyncio.Redis(port=sentinel) as client:
            found: Any = await client.sentinel_get_master_addr_by_name(NAME)
            return found is not None and int(found[1]) == primary


@pytest.fixture
async def found(tmp_path: Path) -> AsyncIterator[Lying]:
    children = Children()
    lying = Lying(tmp_path, children)
    try:
        await lying.start()
        yield lying
    finally:
        await children.close()


@pytest.mark.parametrize("first", ["lying", "primary", "nobody"])
async def test_another_one_is_asked(found: Lying, first: str) -> None:
    """Also in the place of a host that is no sentinel, and of one that is not there."""
    port = getattr(found, first, None) or free_port()
    url = f"redis+sentinel://127.0.0.1:{port},127.0.0.1:{found.honest}/{NAME}"
    lease, leases = Lease(url, "test", "ours", 4.0), PartitionLeases(url, "w.1", 4.0)
    outage = Outage(log, "test", most=0.2)
    async with asyncio.timeout(10):
        assert await outage.retry_forever(lease.acquire, LeaseUnavailable)
        got = await outage.retry_forever(lambda: leases.acquire(2, [1]), LeaseUnavailable)
    assert got == {1}
    await asyncio.gather(lease.close(), leases.close())


async def test_two_that_look_for_the_primary_at_once_lose_no_sentinel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first one is gone, and both are answered by the second one."""
    made = driver.client(f"redis+sentinel://a:1,b:2,c:3/{NAME}")
    manager = made.connection_pool.sentinel_manager  # type: ignore[attr-defined]
    gone, knows, third = all_three = [*manager.sentinels]
    state = {"is_master": True, "is_sdown": False, "is_odown": False, "num-other-sentinels": 2}

    async def answer() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {NAME: {**state, "ip": "127.0.0.1", "port": 6379}}

    async def fail() -> dict[str, Any]:
        raise redis.exceptions.ConnectionError("gone")

    monkeypatch.setattr(gone, "sentinel_masters", fail)
    for each in (knows, third):
        monkeypatch.setattr(each, "sentinel_masters", answer)
    for _ in range(3):
        found = await asyncio.gather(*(manager.discover_master(NAME) for _ in range(2)))
        assert found == [("127.0.0.1", 6379)] * 2
        assert sorted(map(id, manager.sentinels)) == sorted(map(id, all_three))
    await made.aclose()
