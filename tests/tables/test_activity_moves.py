"""The activity table counts each event once, wherever its partition moves, and whoever stops."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

import faust
import pytest
from faust.types import TP

from pipeline.banking.events import DEPOSITED
from pipeline.banking.money import turnover
from pipeline.bridge import Batch, BatchSchema, Options, configure
from pipeline.messaging import JetStream, ensure_partitioned
from pipeline.model.events import Event, encode, new_event
from pipeline.support.settings import Settings
from pipeline.tables.activity import Activity
from pipeline.tables.activity_reader import ActivityReader
from tests.bridge.support import PARTITIONS, TOPIC, Driven, running
from tests.harness import eventually

ALL = frozenset(range(PARTITIONS))
ACCOUNT = "01J00000000000000000000000"


class Counting:
    """An app with the table alone, whose assignment the test drives."""

    def __init__(self, settings: Settings, folder: Path, commit_seconds: float = 0.05) -> None:
        self.assignment, self.gate, self.counted = Driven(), asyncio.Event(), 0
        self.app = faust.App(
            "bank",
            broker=settings.nats_url,
            store="memory://",
            topic_partitions=PARTITIONS,
            web_enabled=False,
            datadir=folder,
            broker_commit_interval=commit_seconds,
        )
        self.activity = Activity(self.app, self._turnover)
        self.app.agent(self.app.topic(TOPIC, schema=BatchSchema()))(self._read)
        configure(
            self.app,
            Options(assignment=self.assignment, before_commit=self._before_commit, lease_seconds=2),
        )

    async def _read(self, stream: faust.StreamT[Batch]) -> None:
        async for event in stream.noack().events():
            self.activity.note(event)
            event.ack()

    async def _before_commit(self, done: Mapping[TP, int]) -> Collection[TP]:
        self.activity.write()
        return done.keys()

    def _turnover(self, event: Event) -> tuple[str, int]:
        self.counted += 1
        return turnover(event)


@pytest.fixture
async def js(settings: Settings) -> AsyncIterator[JetStream]:
    client = await JetStream.connect(settings.nats_url, "test")
    await ensure_partitioned(client, TOPIC, PARTITIONS)
    yield client
    await client.close()


async def publish(js: JetStream, count: int) -> None:
    """So many events of one unit of money, to each partition in turn."""
    for number in range(count):
        event = new_event(ACCOUNT, number + 1, DEPOSITED, {"money": 1})
        await js.nc.publish(f"{TOPIC}.{number % PARTITIONS}", encode(event))
    await js.nc.flush()


async def counted(js: JetStream) -> tuple[int, int]:
    """Events and money of all kinds in all minutes, as the page reads them."""
    minutes = (await ActivityReader().read(js)).values()
    kinds = [each for minute in minutes for each in minute.values()]
    return sum(each["events"] for each in kinds), sum(each["money"] for each in kinds)


async def test_partitions_that_move_under_load_and_a_stop_keep_it_exact(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    one, two = (Counting(settings, scratch / name) for name in ("one", "two"))
    async with running(one, ALL):  # type: ignore[arg-type]
        async with running(two, frozenset()):  # type: ignore[arg-type]
            for share in ({0, 1}, {2}, set(), set(ALL)):
                publishing = asyncio.create_task(publish(js, 400))
                await one.assignment.assign(frozenset(share))
                await two.assignment.assign(ALL - share)
                await publishing
                await two.assignment.assign(frozenset())
        await publish(js, 400)
        await eventually(lambda: one.counted + two.counted >= 2000)
        await one.assignment.assign(frozenset())  # as a worker does before it stops
    assert await counted(js) == (2000, 2000)


async def test_what_a_lost_partition_has_not_written_is_counted_by_its_next_owner(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    old = Counting(settings, scratch / "old", commit_seconds=3600)
    new = Counting(settings, scratch / "new")
    async with running(old, ALL):  # type: ignore[arg-type]
        await publish(js, 40)
        await eventually(lambda: old.counted == 40)
        await old.assignment.assign(frozenset({0, 1}), lost=frozenset({2, 3}))
        await old.assignment.assign(frozenset())
        async with running(new, ALL):  # type: ignore[arg-type]
            await eventually(lambda: new.counted == 20)
            await new.assignment.assign(frozenset())
    assert await counted(js) == (40, 40)


async def test_what_is_delivered_again_after_a_seek_is_counted_once(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    one = Counting(settings, scratch / "one", commit_seconds=3600)
    async with running(one, ALL):  # type: ignore[arg-type]
        await publish(js, 40)
        await eventually(lambda: one.counted == 40)
        await one.app.consumer.seek_after(TP(TOPIC, 1), 0)
        await eventually(lambda: one.counted == 50)
        await one.assignment.assign(frozenset())
    assert await counted(js) == (40, 40)
