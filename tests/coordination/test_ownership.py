"""Workers share the partitions by leases: fairly, one owner each, whatever Redis forgets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Set

import pytest
import redis.asyncio

from pipeline.coordination import ownership
from pipeline.coordination.ownership import Ownership
from pipeline.coordination.partition_leases import PartitionLeases, name_of, owner_named
from pipeline.embedded.servers import EmbeddedServers
from pipeline.messaging import JetStream
from pipeline.support.settings import Settings
from tests.harness import eventually

PARTITIONS = 8


class Member:
    """A worker without work: it notes what it is assigned, and who else has it then."""

    def __init__(self, fleet: "Members", name: str, seconds: float) -> None:
        self.fleet = fleet
        self.ownership = Ownership(PartitionLeases(fleet.url, owner_named(name), seconds))
        self.ownership.js = fleet.js
        self.share: frozenset[int] = frozenset()
        self.shares: list[frozenset[int]] = []
        self.dropped: list[frozenset[int]] = []
        self.failing = 0
        self.drain = asyncio.Event()
        self.drain.set()
        self.task = asyncio.create_task(self.ownership.run(self.assign, PARTITIONS))

    async def assign(self, share: Set[int], lost: Set[int]) -> None:
        if self.failing:
            self.failing -= 1
            raise RuntimeError("cannot move now")
        if lost:
            self.dropped.append(frozenset(lost))
        self.share -= lost
        if self.share - share:
            await self.drain.wait()
        others = frozenset(p for m in self.fleet.alive if m is not self for p in m.share)
        self.fleet.doubled |= others & (share - self.share)
        self.share = frozenset(share)
        self.shares.append(self.share)

    async def kill(self) -> None:
        """End as SIGKILL ends: no goodbye."""
        self.ownership.leases.owner = "nobody"
        self.task.cancel()
        await asyncio.wait({self.task})


class Members:
    """The fleet of a test."""

    def __init__(self, url: str) -> None:
        self.url, self.alive = url, list[Member]()
        self.js: JetStream | None = None
        self.doubled: frozenset[int] = frozenset()

    def join(self, count: int = 1, seconds: float = 1.0) -> Member:
        for _ in range(count):
            self.alive.append(Member(self, f"w{len(self.alive)}", seconds))
        return self.alive[-1]

    def shares(self) -> list[int]:
        """Sizes of the shares, the largest first, or nothing while a partition is not had once."""
        had = Counter(p for member in self.alive for p in member.share)
        if sorted(had.elements()) != list(range(PARTITIONS)):
            return []
        return sorted((len(member.share) for member in self.alive), reverse=True)

    async def has(self, *shares: int) -> None:
        await eventually(lambda: self.shares() == list(shares), message=f"shares {shares}")


@pytest.fixture
async def members(settings: Settings) -> AsyncIterator[Members]:
    fleet = Members(settings.redis_url)
    yield fleet
    assert not fleet.doubled, "had by two at one time"
    for member in fleet.alive:
        member.drain.set()
        member.task.cancel()
    if fleet.alive:
        await asyncio.wait({member.task for member in fleet.alive})


async def test_partitions_are_shared_among_those_who_come_and_go(members: Members) -> None:
    members.join()
    await members.has(8)
    members.join(2)
    await members.has(3, 3, 2)
    leaving = members.alive.pop()
    await leaving.ownership.leave()
    assert leaving.share == frozenset()
    await members.has(4, 4)
    members.join(2)
    await members.has(2, 2, 2, 2)
    for member in members.alive:
        assert member.dropped == [], "every move was a hand-over"


async def test_changes_are_announced(
    members: Members, js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between heartbeats that are an hour apart."""
    monkeypatch.setattr(ownership, "_CALM_BEAT", 3600.0)
    monkeypatch.setattr(ownership, "_CALM_PART", 1.0)
    members.js = js
    members.join(seconds=3600.0)
    await members.has(8)
    members.join(2, seconds=3600.0)
    await members.has(3, 3, 2)
    await members.alive.pop().ownership.leave()
    await members.has(4, 4)


async def test_a_killed_worker_is_replaced_when_its_leases_run_out(members: Members) -> None:
    members.join(3)
    await members.has(3, 3, 2)
    killed = members.alive.pop(0)
    had = killed.share
    await killed.kill()
    assert members.shares() == []
    await members.has(4, 4)
    assert had


async def test_a_surplus_is_released_only_when_it_is_drained(members: Members) -> None:
    first = members.join()
    await members.has(8)
    first.drain.clear()
    second = members.join()
    await eventually(lambda: len(first.ownership._surplus) == 4)
    await asyncio.sleep(2.5)  # longer than a lease: they are renewed while they drain
    assert second.share == frozenset()
    assert len(first.ownership.held) == 8
    assert not first.ownership.settled
    first.drain.set()
    await members.has(4, 4)
    await eventually(lambda: first.ownership.settled and second.ownership.settled)
    assert first.dropped == second.dropped == []


async def test_a_fleet_larger_than_the_partitions(members: Members) -> None:
    members.join(10)
    await members.has(*[1] * 8, 0, 0)


async def test_redis_forgets_everything_and_everybody_keeps_what_they_have(
    members: Members,
) -> None:
    members.join(3)
    await members.has(3, 3, 2)
    before = [member.share for member in members.alive]
    moves = [len(member.shares) for member in members.alive]
    async with redis.asyncio.from_url(members.url) as client:
        for _ in range(3):
            await client.flushall()
            await asyncio.sleep(0.4)
        await asyncio.sleep(2)
    assert [member.share for member in members.alive] == before
    assert [len(member.shares) for member in members.alive] == moves
    members.join()
    await members.has(2, 2, 2, 2)


async def test_a_lease_that_another_took_is_dropped_and_not_drained(members: Members) -> None:
    first = members.join()
    await members.has(8)
    first.drain.clear()  # a drain would not end
    async with redis.asyncio.from_url(members.url) as client:
        await client.set("bank:{partitions}:3", "thief", px=500)
        await eventually(lambda: first.dropped == [frozenset({3})])
        assert not await first.ownership.owns(3)
        assert await first.ownership.owns(2)
    first.drain.set()
    await members.has(8)


async def test_what_the_bridge_says_is_lost_is_dropped_and_taken_anew(members: Members) -> None:
    first = members.join()
    await members.has(8)
    first.ownership.lost(5)
    await eventually(lambda: first.dropped == [frozenset({5})])
    await members.has(8)
    assert frozenset(range(8)) - {5} in first.shares


async def test_a_worker_that_stood_still_drops_everything_first(members: Members) -> None:
    first = members.join(seconds=0.6)
    await members.has(8)
    first.drain.clear()
    first.ownership._checked -= 1.0  # as if the last look were that long ago
    await eventually(lambda: first.dropped == [frozenset(range(8))])
    await members.has(8)


async def test_a_move_that_fails_is_made_later(members: Members) -> None:
    first = members.join()
    first.failing = 2
    await members.has(8)
    first.failing = 1
    second = members.join()
    second.failing = 1
    await members.has(4, 4)


async def test_while_redis_is_down_everybody_keeps_what_they_have(
    own_servers: EmbeddedServers, caplog: pytest.LogCaptureFixture
) -> None:
    server = own_servers.servers["redis"]
    fleet = Members(server.url)
    fleet.join(2)
    await fleet.has(4, 4)
    before = [member.share for member in fleet.alive]
    await eventually(lambda: all(member.ownership.settled for member in fleet.alive))
    assert all(member.ownership.known for member in fleet.alive)
    await server.kill()
    await asyncio.sleep(3)
    assert [member.share for member in fleet.alive] == before
    assert not any(member.ownership.known for member in fleet.alive)
    assert await fleet.alive[0].ownership.owns(min(before[0]))
    await server.start()
    await eventually(lambda: caplog.text.count("The leases: works again") == 2)
    assert caplog.text.count("trying until it works") == 2, "said once by each"
    await asyncio.sleep(2)
    assert [member.share for member in fleet.alive] == before
    for member in fleet.alive:
        assert member.ownership.known
        assert member.dropped == []
        await member.ownership.leave()
        member.task.cancel()


async def test_who_leaves_is_followed_at_once(members: Members) -> None:
    """Far below the lease: nothing has to run out."""
    members.join(2, seconds=30.0)
    await members.has(4, 4)
    leaving = members.alive.pop()
    await leaving.ownership.leave()
    await members.has(8)


@pytest.mark.parametrize(
    "command",
    [
        ("RPUSH", "workers", "x"),
        ("HSET", "began", "a", "b"),
        ("SADD", "0", "x"),
        ("SET", "1", "nobody"),
        ("ZADD", "workers", "9e15", "a ghost that lives for ever"),
        ("ZADD", "workers", "nx", "1", b"\xff"),
    ],
    ids=lambda each: " ".join(map(str, each[:2])),
)
async def test_what_is_no_lease_is_in_nobodys_way(
    members: Members, settings: Settings, command: tuple[str | bytes, ...]
) -> None:
    name, key, *values = command
    async with redis.asyncio.from_url(settings.redis_url) as client:
        await client.execute_command(  # type: ignore[no-untyped-call]
            name, f"bank:{{partitions}}:{key!s}", *values
        )
    members.join(2)
    await members.has(PARTITIONS - PARTITIONS // 2, PARTITIONS // 2)


def test_owners_are_unique_and_keep_their_name() -> None:
    first, second = owner_named("blue.local-7"), owner_named("blue.local-7")
    assert first != second
    assert name_of(first) == name_of(second) == "blue.local-7"
