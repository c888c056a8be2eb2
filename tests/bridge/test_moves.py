"""Partitions move between running apps: handed over in order, tables with them, zombies fenced."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.types import TP

from pipeline.bridge import producer, transport
from pipeline.bridge.producer import ChangelogFenced
from pipeline.messaging import JetStream, ensure_partitioned
from pipeline.support.settings import Settings
from tests.bridge.support import PARTITIONS, TOPIC, Reader, publish, running
from tests.harness import Role, eventually

ALL = frozenset(range(PARTITIONS))


class Summing(Reader):
    """Also keeps, in a table, the sum of each partition's numbers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sums = self.app.Table("sums", default=int)

    async def _read(self, stream: faust.StreamT[Any]) -> None:
        async for event in stream.noack().events():
            batch = event.value
            numbers = [int(data) for _, data in batch.messages]
            self.read += [(batch.partition, number) for number in numbers]
            self.sums[str(batch.partition)] += sum(numbers)
            event.ack()


@pytest.fixture
async def js(settings: Settings) -> Any:
    client = await JetStream.connect(settings.nats_url, "test")
    await ensure_partitioned(client, TOPIC, PARTITIONS)
    yield client
    await client.close()


async def test_an_app_starts_when_jetstream_answers(
    settings: Settings, js: JetStream, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection hung while the app declared its topics: that is no reason to end."""
    tries = 0

    async def hanging(*args: Any, **options: Any) -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise TimeoutError
        return await ensure_partitioned(*args, **options)

    monkeypatch.setattr(transport, "ensure_partitioned", hanging)
    async with running(Summing(settings.nats_url, "late", scratch), ALL) as reader:
        await publish(js, range(20))
        await reader.has(20)
    assert tries == 3


async def test_partitions_are_handed_over_in_order_with_their_tables(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    one, two = (Summing(settings.nats_url, name, scratch) for name in ("same", "same"))
    half = frozenset({0, 1})
    async with running(one, ALL), running(two, frozenset()):
        publishing = asyncio.create_task(_steadily(js, 4000))
        for share in (half, frozenset(), half, ALL, half):
            await one.has(len(one.read) + 50) if one.assignment.mine else await two.has(
                len(two.read) + 50
            )
            shrinking = share < one.assignment.mine
            first, second = (one, two) if shrinking else (two, one)
            await first.assignment.assign(share if first is one else ALL - share)
            await second.assignment.assign(share if second is one else ALL - share)
        await publishing
        await eventually(lambda: len(one.read) + len(two.read) >= 4000, seconds=60)
        for p in ALL:
            read = sorted(one.of(p) + two.of(p))
            assert read == list(range(p, 4000, PARTITIONS)), "each once"
            assert one.of(p) == sorted(one.of(p))
            assert two.of(p) == sorted(two.of(p))
        sums = {p: (one if p in half else two).sums[str(p)] for p in ALL}
        assert sums == {p: sum(range(p, 4000, PARTITIONS)) for p in ALL}
        gone = [p for p in ALL - half if str(p) in one.sums]
        assert not gone, "tables leave with their partition"


async def test_a_late_worker_cannot_overwrite_a_table(
    settings: Settings, js: JetStream, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it learns that, although the server does not answer at first who has written."""
    old, new = (Summing(settings.nats_url, name, scratch) for name in ("same", "same"))
    async with running(old, ALL):
        await publish(js, range(8))
        await old.has(8)
        await eventually(lambda: _acked(js))
        await old.app.producer.flush()
        async with running(new, ALL):
            await publish(js, range(8, 16))
            await new.has(8)
            await new.app.producer.flush()
            topic = old.sums.changelog_topic.get_topic_name()
            theirs = old.app.producer.transport.js
            last_message, errors = theirs.last_message, [TimeoutError("no answer")]

            async def at_first_unanswered(*args: Any) -> Any:
                if errors:
                    raise errors.pop()
                return await last_message(*args)

            monkeypatch.setattr(theirs, "last_message", at_first_unanswered)
            late = await old.app.producer.send(topic, b'"0"', b"999", 0, None, None)
            with pytest.raises(ChangelogFenced):
                async with asyncio.timeout(10):
                    await late
            assert not errors
            assert new.sums["0"] == 0 + 4 + 8 + 12


async def test_what_is_left_of_a_deleted_key_goes_in_the_end(
    settings: Settings, js: JetStream, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "TOMBSTONE_SECONDS", 1)
    app = Summing(settings.nats_url, "same", scratch)
    topic = app.sums.changelog_topic.get_topic_name()
    await js.ensure_stream(topic, [f"{topic}.*.>"], max_msgs_per_subject=1)  # an older version's

    async def delete() -> None:
        await app.app.producer.send_and_wait(topic, b'"1"', None, 1, None, None)

    async with running(app, ALL):
        await publish(js, range(PARTITIONS))
        await app.has(PARTITIONS)
        await eventually(lambda: _number(js, topic, PARTITIONS))
        await delete()
        await eventually(lambda: _number(js, topic, PARTITIONS - 1))
        await publish(js, range(9, 10))  # 9 is in partition 1
        await app.has(PARTITIONS + 1)
        await app.app.producer.flush()
        assert await _number(js, topic, PARTITIONS)
        await delete()
        await publish(js, range(13, 14))  # while it is still there
        await app.has(PARTITIONS + 2)
        await app.app.producer.flush()
        assert await _number(js, topic, PARTITIONS)


async def _number(js: JetStream, stream: str, number: int) -> bool:
    state = await js.state(stream)
    return state is not None and state.messages == number


async def test_an_app_that_knows_nothing_of_the_bridge_runs_on_it(
    settings: Settings, js: JetStream, scratch: Path, role: Callable[..., Awaitable[Role]]
) -> None:
    """A plain app: one Faust message an event, acked by Faust itself, its table recovered."""
    command = (
        "python",
        "-m",
        "faust",
        "--datadir",
        str(scratch / "greeter"),
        "-A",
        "tests.apps.greeter",
        "worker",
    )
    greeter = await role(*command, "--without-web", GREETER_BROKER=settings.nats_url)
    await ensure_partitioned(js, "names", 4)
    for number in range(1, 9):
        await js.nc.publish(f"names.{number % 4}", f'"Ada{number % 4}"'.encode())
    await eventually(lambda: "Hello Ada3, number 2" in greeter.log())
    await eventually(lambda: _acked(js, "names"))
    await greeter.kill(signal.SIGKILL)
    await greeter.start()
    await js.nc.publish("names.3", b'"Ada3"')
    await eventually(lambda: "Hello Ada3, number 3" in greeter.log())
    assert greeter.log().count("Hello Ada1, number 2") == 1


async def test_plain_messages_sent_by_faust_carry_their_keys(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    app = faust.App(
        "sender",
        broker=settings.nats_url,
        store="memory://",
        topic_partitions=4,
        web_enabled=False,
        datadir=scratch / "sender",
    )
    letters, got = app.topic("letters", key_type=str, value_type=str), []

    @app.agent(letters)
    async def read(stream: faust.StreamT[str]) -> None:
        async for key, value in stream.items():
            got.append((key, value))

    await app.start()
    await letters.send(key="Ada", value="Dear Ada")
    await eventually(lambda: got == [("Ada", "Dear Ada")])
    assert TP("letters", app.transport.key_partition("letters", b"Ada")) in app.consumer.feeds
    await app.stop()


async def _steadily(js: JetStream, count: int) -> None:
    for start in range(0, count, 40):
        await publish(js, range(start, start + 40))
        await asyncio.sleep(0.01)


async def _acked(js: JetStream, topic: str = TOPIC) -> bool:
    infos = [await js.api(f"CONSUMER.INFO.{topic}.{topic}-{p}") for p in range(4)]
    return all(info["num_pending"] == info["num_ack_pending"] == 0 for info in infos)
