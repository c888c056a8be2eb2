"""A stale owner, forced: what it had under way reaches the servers only after it was replaced.

What worker w1 sends is held by a proxy, w1 is stopped past its leases, w2 takes its partitions and
goes on; then what was held is let go, and at last w1 itself.
"""

import asyncio
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from pipeline.support.settings import Settings
from tests.harness import LONG_LANE, eventually, rounds
from tests.names import ALIAS, STREAM
from tests.proxy import Held, everything, statuses, writes_to
from tests.stage import Stage, Start, staged

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(rounds(300, 1800))]

RATE = 200
DOCUMENTS, ACKS = "balance-g", "acks"
MOMENTS = [(DOCUMENTS, False), (DOCUMENTS, True), (ALIAS, False), (ALIAS, True), (ACKS, False)]
"""What of w1 is held: its writes into that alias or, if True, the answers to them; or its acks."""
DELIVERY = f"$JS.ACK.{STREAM}.".encode()
"""Is in every message that the stream delivers."""
ACK = re.compile(rb"PUB \$JS\.ACK\.%b\.%b-(\d+)\.\d+\.(\d+)\." % (2 * (STREAM.encode(),)))


@pytest.fixture
async def stage(settings: Settings, role: Start) -> AsyncIterator[Stage]:
    async with staged(settings, role) as opened:
        yield opened


@pytest.mark.drill
async def test_a_stale_owner_changes_nothing(stage: Stage) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed).sample(MOMENTS, len(MOMENTS))
    for number in range(rounds(1, 15)):
        what, after = moments[number % len(moments)]
        print("held:", "the answers to" if after else "", what)
        if what == ACKS:
            await hold_acks(stage)
        else:
            await hold_writes(stage, what, after)
        await wake(stage)
    async with stage.load.steady(RATE):
        await asyncio.sleep(1)
    await stage.ends_well()


@LONG_LANE
@pytest.mark.drill
async def test_a_worker_that_loses_redis_alone_gives_way(stage: Stage) -> None:
    """It goes on, for Redis may be down; but once another one reads, it gets nothing any more."""
    async with stage.load.steady(RATE):
        await stage.redis.cut()
        await stage.all_taken()
        await asyncio.sleep(stage.settings.lease_seconds)
        with stage.nats.recording() as heard:
            await asyncio.sleep(2 * stage.settings.lease_seconds)
        assert heard
        assert DELIVERY not in heard
        assert set(await stage.claimants()) == {"w2"}
        await stage.redis.mend()
        await stage.shared()
    await stage.ends_well()


@LONG_LANE
@pytest.mark.drill
async def test_a_worker_cut_off_from_everything_changes_nothing(stage: Stage) -> None:
    """All that it sent comes late, and it goes on before it can ask whose its partitions are."""
    held = Held(everything)
    with stage.ways[0].faulty(held):
        async with stage.load.steady(RATE):
            await held.caught()
            await stage.redis.hang()
            await stage.nats.hang()
            await stage.all_taken()
            await asyncio.sleep(1)
        await stage.quiet()
        before, _ = await stage.all_seen()
        await held.release()
    await stage.nats.mend()
    given_way = "belongs to another worker now"
    await eventually(lambda: stage.w1.log().count(given_way) == stage.half, message="gives way")
    await stage.quiet()
    assert (await stage.all_seen())[0] == before
    await stage.redis.mend()
    await stage.shared()
    async with stage.load.steady(RATE):
        await asyncio.sleep(1)
    await stage.ends_well()


async def hold_writes(stage: Stage, alias: str, after: bool) -> None:
    """Writes of w1, or the answers to them, arrive when w2 has written all that and more."""
    held = Held(writes_to(alias), after=after)
    with stage.ways[0].faulty(held):
        async with stage.load.steady(RATE):
            await held.caught()
            await stage.freeze()
            await asyncio.sleep(1)
        await stage.quiet()
        before = await stage.all_seen()
        replies = await held.release()
    assert after or {status for reply in replies for status in statuses(reply)} == {409}
    assert await stage.all_seen() == before


async def hold_acks(stage: Stage) -> None:
    """Acks of w1 arrive when w2 has got the same messages, and has not acked them yet."""
    applying = Held(writes_to(DOCUMENTS))
    async with stage.load.steady(RATE):
        await hang_at_an_ack(stage)
        with stage.ways[1].faulty(applying):
            await stage.freeze()
            late = acks_kept(stage)
            await eventually(lambda: reached(stage, "delivered", late), message="come again")
            assert not await reached(stage, "ack_floor", late)
            await stage.nats.mend()
            await eventually(lambda: not stage.nats.kept(), message="late acks are passed on")
            await applying.release()
        await asyncio.sleep(1)
    await stage.quiet()


async def hang_at_an_ack(stage: Stage) -> None:
    """The connection of w1 to NATS hangs between a claim and the acks for it."""
    for _ in range(30):
        claiming = Held(writes_to(ALIAS), after=True)
        with stage.ways[0].faulty(claiming):
            await claiming.caught()
            await stage.nats.hang()
            await claiming.release()
        with suppress(AssertionError):  # some claims are for no ack
            await eventually(lambda: acks_kept(stage), seconds=1)
            return
        await stage.nats.mend()
        # After a hang w1 may acquire its partitions anew, and the claims for that are for no ack.
        await acks_go_on(stage)
    raise AssertionError("no ack was ever held")


async def acks_go_on(stage: Stage) -> None:
    """Wait until JetStream has got a further ack for each partition of w1."""
    before = await stage.consumers()
    beyond = {
        partition: int(before[partition]["ack_floor"]["stream_seq"]) + 1
        for partition, name in enumerate(await stage.claimants())
        if name == "w1"
    }
    await eventually(lambda: reached(stage, "ack_floor", beyond), message="acks go on")


def acks_kept(stage: Stage) -> dict[int, int]:
    """Up to which sequence the acks say that are held, by partition."""
    return {int(partition): int(last) for partition, last in ACK.findall(stage.nats.kept())}


async def reached(stage: Stage, what: str, sequences: dict[int, int]) -> bool:
    found = await stage.consumers()
    return all(found[p][what]["stream_seq"] >= last for p, last in sequences.items())


async def wake(stage: Stage) -> None:
    """w1 goes on without Redis: it drops its partitions, gets no message and moves nothing.

    With Redis back it gets its share again.
    """
    await stage.redis.cut()
    said = len(stage.w1.log())
    with stage.nats.recording() as heard:
        await stage.w1.kill(signal.SIGCONT)
        async with stage.load.steady(RATE):
            await eventually(lambda: "dropping them" in stage.w1.log()[said:])
            await asyncio.sleep(stage.settings.lease_seconds)
        await stage.quiet()
        assert heard
        assert DELIVERY not in heard
        assert set(await stage.claimants()) == {"w2"}
    await stage.redis.mend()
    await stage.shared()
