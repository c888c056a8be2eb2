"""The bridge reads: batches, commits, seeks, one reader at a time, a server that goes away."""

import asyncio
import signal
from collections.abc import Awaitable, Collection, Mapping
from pathlib import Path
from typing import Literal

import pytest
from faust.types import TP

from pipeline.bridge.consumer import NEW_LEADER
from pipeline.bridge.durable import Durable
from pipeline.bridge.feed import Trouble
from pipeline.embedded.servers import EmbeddedServers
from pipeline.messaging import JetStream, ensure_partitioned
from pipeline.support.settings import Settings
from tests.bridge.support import PARTITIONS, TOPIC, Reader, floor, publish, running
from tests.harness import eventually

ALL = frozenset(range(PARTITIONS))


async def test_batches_arrive_in_order_and_are_acked(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    await publish(js, range(4000))
    async with running(Reader(settings.nats_url, "one", scratch), ALL) as reader:
        await eventually(lambda: len(reader.read) == 4000)
        for p in ALL:
            assert reader.of(p) == list(range(p, 4000, PARTITIONS))
        assert len(reader.batches) < 100

        async def acked() -> bool:
            return [await floor(js, p) for p in ALL] == [3997, 3998, 3999, 4000]

        await eventually(acked)


async def test_what_is_not_done_is_not_acked(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    async with running(Reader(settings.nats_url, "one", scratch), ALL) as reader:
        reader.gate.clear()
        await publish(js, range(8))
        await eventually(
            lambda: (
                reader.consumer.feeds
                and all(feed.delivered for feed in reader.consumer.feeds.values())
            )
        )
        assert await reader.consumer.commit() is False
        assert [await floor(js, p) for p in ALL] == [0, 0, 0, 0]
        reader.gate.set()
        await eventually(lambda: len(reader.read) == 8)


async def test_a_commit_waits_for_what_goes_before_it(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    allowed: set[int] = set()

    async def before(done: dict) -> list:  # type: ignore[type-arg]
        return [tp for tp in done if tp.partition in allowed]

    reader = Reader(settings.nats_url, "one", scratch, before_commit=before)
    async with running(reader, ALL):
        await publish(js, range(8))
        await eventually(lambda: len(reader.read) == 8)
        allowed.add(2)
        await eventually(lambda: _is(floor(js, 2), 7))
        assert await floor(js, 1) == 0
        allowed.update(ALL)
        await eventually(lambda: _is(floor(js, 1), 6))


async def test_a_seek_delivers_again_and_makes_the_rest_stale(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    await publish(js, range(40))
    async with running(Reader(settings.nats_url, "one", scratch), ALL) as reader:
        await eventually(lambda: len(reader.read) == 40)
        await eventually(lambda: _is(floor(js, 1), 38))
        before = [batch for batch in reader.batches if batch.partition == 1]
        assert not any(batch.stale for batch in before)
        assert await reader.seek(1, 10) == 10
        assert all(batch.stale for batch in before)
        await eventually(lambda: reader.of(1)[10:] == list(range(13, 40, PARTITIONS)))
        await eventually(lambda: _is(floor(js, 1), 38))
        assert len(reader.of(0)) == 10


async def test_only_the_last_taker_gets_messages(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    old, new = (Reader(settings.nats_url, name, scratch) for name in ("old", "new"))
    async with running(old, ALL):
        await publish(js, range(4))
        await eventually(lambda: len(old.read) == 4)  # the server has pinned it
        old.assignment.mine.clear()
        async with running(new, ALL):
            await publish(js, range(4, 400))
            await eventually(lambda: len({n for _, n in new.read if n >= 4}) == 396)
            assert len(old.read) == 4
            await eventually(lambda: set(old.assignment.refused) == ALL)


async def test_who_never_had_a_pin_asks_the_lease_before_it_takes_the_owners(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    """A worker of a partition without events was suspended, and its connection begins again."""
    old, new = (Reader(settings.nats_url, name, scratch) for name in ("old", "new"))
    async with running(old, ALL):
        old.assignment.mine.clear()
        for feed in old.consumer.feeds.values():
            await feed.close()
        async with running(new, ALL):
            await publish(js, range(4))
            await eventually(lambda: len(new.read) == 4)  # the server has pinned it
            unpinned: list[object] = []
            feed = old.consumer.feeds[TP(TOPIC, 0)]
            feed.durable.unpin = unpinned.append
            old.consumer._trouble(TP(TOPIC, 0), Trouble(pinned_elsewhere=False))
            await eventually(lambda: old.assignment.refused == [0])
            await publish(js, range(4, 40))
            await eventually(lambda: len(new.read) == 40)
            assert not unpinned
            assert not old.read


async def test_a_refused_pin_is_taken_again_by_the_owner(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    """A restarted server forgets its pins: a 423 is a question to the lease."""
    async with running(Reader(settings.nats_url, "one", scratch), ALL) as reader:
        await publish(js, range(40))
        await eventually(lambda: len(reader.read) == 40)
        for p in ALL:
            await js.api(f"CONSUMER.UNPIN.{TOPIC}.{TOPIC}-{p}", {"group": "owner"})
        await publish(js, range(40, 400))
        await eventually(lambda: len(reader.read) == 400)
        assert sorted(number for _, number in reader.read) == list(range(400))


async def test_a_new_leader_of_a_consumer_is_asked_at_once(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    """The one before it may be dead, and with it the request that waited there."""
    async with running(Reader(settings.nats_url, "one", scratch), ALL) as reader:
        await publish(js, range(40))
        await eventually(lambda: len(reader.read) == 40)
        inboxes = {tp.partition: feed._inbox for tp, feed in reader.consumer.feeds.items()}
        await js.nc.publish(f"{NEW_LEADER}.{TOPIC}.{TOPIC}-2")
        feed = reader.consumer.feeds[TP(TOPIC, 2)]
        await eventually(lambda: feed.open and feed._inbox != inboxes[2])
        await publish(js, range(40, 400))
        await eventually(lambda: len(reader.read) == 400)
        assert sorted(number for _, number in reader.read) == list(range(400))
        now = {tp.partition: feed._inbox for tp, feed in reader.consumer.feeds.items()}
        assert {p for p in ALL if now[p] != inboxes[p]} == {2}


async def test_a_deleted_consumer_and_a_remade_stream_are_read_on(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    async with running(Reader(settings.nats_url, "one", scratch), ALL) as reader:
        await publish(js, range(40))
        await eventually(lambda: len(reader.read) == 40)
        await js.api(f"CONSUMER.DELETE.{TOPIC}.{TOPIC}-0")
        await publish(js, range(40, 44))
        await eventually(lambda: 40 in reader.of(0), seconds=60)
        assert reader.of(0).count(4) == 1  # handed over once: skipped when it comes again
        await js.api(f"STREAM.DELETE.{TOPIC}")
        await ensure_partitioned(js, TOPIC, PARTITIONS)
        await publish(js, range(100, 108))
        await eventually(lambda: {n for _, n in reader.read} >= set(range(100, 108)), seconds=60)


async def test_what_was_done_of_a_stream_is_not_done_of_the_one_in_its_place(
    settings: Settings, js: JetStream, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sequences begin anew; nor does a failure in the midst of the restart change that."""
    commits = list[Mapping[TP, int]]()

    async def before(done: Mapping[TP, int]) -> Collection[TP]:
        commits.append(done)
        return []

    reset, failed = Durable.reset, set[str]()

    async def fails_once(self: Durable, sequence: int | None) -> int:
        if self.name not in failed:
            failed.add(self.name)
            raise TimeoutError("the answer is lost")
        return await reset(self, sequence)

    reader = Reader(settings.nats_url, "one", scratch, before_commit=before)
    async with running(reader, ALL):
        await publish(js, range(4))
        await eventually(lambda: len(reader.read) == 4 and commits and len(commits[-1]) == 4)
        feeds = list(reader.consumer.feeds.values())
        before_that = [feed.seeks for feed in feeds]
        reader.gate.clear()
        monkeypatch.setattr(Durable, "reset", fails_once)
        await js.api(f"STREAM.DELETE.{TOPIC}")
        await ensure_partitioned(js, TOPIC, PARTITIONS)
        await publish(js, range(100, 104))
        await eventually(
            lambda: all(
                feed.seeks > seeks and feed.out and feed.delivered
                for feed, seeks in zip(feeds, before_that, strict=True)
            ),
            seconds=60,
        )
        commits.clear()
        assert await reader.consumer.commit() is False
        assert not commits
        reader.gate.set()
        await eventually(lambda: len(reader.read) == 8)
        assert {n for _, n in reader.read} == {*range(4), *range(100, 104)}
        await eventually(lambda: commits and len(commits[-1]) == 4)


async def test_a_stale_batch_that_is_done_is_not_taken_for_the_one_delivered_again(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    reader = Reader(settings.nats_url, "one", scratch)
    one_by_one = asyncio.Semaphore(0)

    async def wait() -> Literal[True]:
        return await one_by_one.acquire()

    async with running(reader, ALL):
        feed = reader.consumer.feeds[TP(TOPIC, 1)]
        reader.gate.wait = wait  # type: ignore[method-assign]
        await publish(js, range(1, 2))
        await eventually(lambda: feed.delivered == 1)
        assert await reader.seek(1, 0) == 0
        await eventually(lambda: feed.delivered == 1)
        one_by_one.release()
        await eventually(lambda: len(reader.batches) == 1)
        assert reader.batches[0].stale
        assert await reader.consumer.commit() is False
        assert await floor(js, 1) == 0
        one_by_one.release()
        await eventually(lambda: _is(floor(js, 1), 1))


async def test_a_restarted_server_loses_and_doubles_nothing(
    own_servers: EmbeddedServers, scratch: Path
) -> None:
    nats = own_servers.servers["nats"]
    js = await JetStream.connect(nats.url, "test")
    await ensure_partitioned(js, TOPIC, PARTITIONS)
    async with running(Reader(nats.url, "one", scratch), ALL) as reader:
        for number, how in enumerate((signal.SIGTERM, signal.SIGKILL)):
            first = number * 1000
            await publish(js, range(first, first + 1000))
            await reader.has(first + 1)
            await nats.kill(how)
            await nats.start()
            await js.nc.flush()
            await reader.has(first + 1000)
        for p in ALL:
            assert reader.of(p) == list(range(p, 2000, PARTITIONS))
    await js.close()


async def _is(value: Awaitable[int], wanted: int) -> bool:
    return await value == wanted
