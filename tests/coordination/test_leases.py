"""A lease has one holder, comes free by itself, and is given up only by its holder."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import redis.asyncio

from pipeline.coordination.leases import Lease, LeaseUnavailable, leading
from pipeline.embedded.servers import EmbeddedServers
from pipeline.support.settings import Settings
from tests.harness import eventually

SHORT = 2.0
"""Seconds. Redis has a third of it to answer, also on a busy machine."""


@pytest.fixture
async def lease(settings: Settings) -> AsyncIterator[Callable[[str], Lease]]:
    """`lease("owner")`: one of several contenders for the same lease."""
    made: list[Lease] = []

    def make(owner: str) -> Lease:
        made.append(Lease(settings.redis_url, "test", owner, SHORT))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_one_of_many_acquires(lease: Callable[[str], Lease]) -> None:
    contenders = [lease(f"owner-{number}") for number in range(10)]
    assert sum(await asyncio.gather(*(each.acquire() for each in contenders))) == 1


async def test_the_holder_may_acquire_again_and_only_it_renews(
    lease: Callable[[str], Lease],
) -> None:
    ours, theirs = lease("ours"), lease("theirs")
    assert await ours.acquire()
    assert await ours.acquire()
    assert await ours.renew()
    assert not await theirs.renew()
    assert not await theirs.acquire()


async def test_release_by_another_changes_nothing(lease: Callable[[str], Lease]) -> None:
    ours, theirs = lease("ours"), lease("theirs")
    await ours.acquire()
    await theirs.release()
    assert not await theirs.acquire()
    await ours.release()
    assert await theirs.acquire()


async def test_a_lease_that_is_not_renewed_comes_free(lease: Callable[[str], Lease]) -> None:
    ours, theirs = lease("ours"), lease("theirs")
    await ours.acquire()
    assert await eventually(theirs.acquire)
    assert not await ours.renew()
    assert not await ours.acquire()


async def test_leading_holds_the_lease_as_long_as_the_block_lasts(
    lease: Callable[[str], Lease],
) -> None:
    ours, theirs = lease("ours"), lease("theirs")
    async with leading(ours) as lost:
        for _ in range(16):
            await asyncio.sleep(SHORT / 8)
            assert not await theirs.acquire()
        assert not lost.is_set()
    assert await theirs.acquire()


async def test_leading_waits_for_the_lease_and_tells_when_it_is_lost(
    lease: Callable[[str], Lease],
) -> None:
    ours, theirs, thief = lease("ours"), lease("theirs"), lease("ours")
    await theirs.acquire()
    async with leading(ours) as lost:  # theirs was never renewed
        await thief.release()
        assert await theirs.acquire()
        await eventually(lost.is_set)
    assert not await ours.acquire(), "left without taking what is another's"


async def test_a_leader_outlasts_redis_and_a_standby_waits_for_it(
    own_servers: EmbeddedServers,
) -> None:
    server = own_servers.servers["redis"]
    ours = Lease(server.url, "test", "ours", SHORT)
    theirs = Lease(server.url, "test", "theirs", SHORT)
    async with leading(ours) as lost:
        await server.kill()
        with pytest.raises(LeaseUnavailable):
            await theirs.acquire()
        standby = asyncio.create_task(theirs_leads(theirs))
        await asyncio.sleep(1.5 * SHORT)
        assert not lost.is_set()
        assert not standby.done()
        assert (ours.held, ours.answers) == (True, False)
        assert (theirs.held, theirs.answers) == (False, False)
        await server.start()

        async def settled() -> bool:
            return lost.is_set() or await ours.renew()

        assert await eventually(settled, message="ours, or lost to the standby, and known to be")
        assert ours.answers
    assert not ours.held
    async with asyncio.timeout(30):
        await standby
    await ours.close()
    await theirs.close()


async def theirs_leads(lease: Lease) -> None:
    async with leading(lease):
        pass


@pytest.mark.parametrize(
    "command", [("RPUSH", "x"), ("HSET", "a", "b"), ("SET", "nobody")], ids=lambda each: each[0]
)
async def test_what_is_no_lease_is_in_nobodys_way(
    lease: Callable[[str], Lease], settings: Settings, command: tuple[str, ...]
) -> None:
    """Of another type, or without an end: no bank wrote it."""
    name, *values = command
    async with redis.asyncio.from_url(settings.redis_url) as client:
        await client.execute_command(name, "bank:lease:test", *values)  # type: ignore[no-untyped-call]
    ours, theirs = lease("ours"), lease("theirs")
    assert await ours.acquire()
    assert not await theirs.acquire()
