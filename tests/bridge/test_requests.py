"""Pull requests: the next when half is used; one that expires or is lost is replaced."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from faust.types import TP
from nats.aio.msg import Msg

from pipeline.bridge.feed import Feed
from pipeline.bridge.options import Options
from pipeline.messaging import JetStream
from pipeline.support.settings import Settings
from tests.bridge.support import TOPIC
from tests.harness import eventually

BATCH = 10
MESSAGES = f"{TOPIC}.0"


class Reading:
    """A feed whose messages are taken from it as they come, and what it asks the server for."""

    def __init__(self, js: JetStream, lease_seconds: float) -> None:
        self.js, self.asked, self.read = js, 0, list[int]()
        options = Options(batch=BATCH, lease_seconds=lease_seconds)
        self.feed = Feed(js, TP(TOPIC, 0), options, lambda: None, lambda *_: None)

    async def start(self, listener: JetStream) -> None:
        await listener.nc.subscribe(self.feed.durable.next_subject, cb=self._on_request)
        await listener.nc.flush()
        await self.feed.seek(None)

    async def _on_request(self, message: Msg) -> None:
        self.asked += 1

    async def come(self, count: int) -> bool:
        """Take what has come and ask for more, as the consumer does; whether that many came."""
        self.read += [int(each.data) for each in self.feed.deliver(1000)]
        await self.feed.request()
        return len(self.read) >= count

    async def publish(self, count: int) -> None:
        """So many messages more, and wait until they have come."""
        first = len(self.read)
        for number in range(first, first + count):
            await self.js.nc.publish(MESSAGES, str(number).encode())
        await eventually(lambda: self.come(first + count), every=0.01)
        assert self.read == list(range(first + count))

    async def waiting(self) -> int:
        """The requests that wait at the server."""
        info = await self.js.api(f"CONSUMER.INFO.{TOPIC}.{self.feed.durable.name}")
        return int(info["num_waiting"])


@pytest.fixture
async def reading(settings: Settings, js: JetStream) -> AsyncIterator[Callable[[float], Any]]:
    listener = await JetStream.connect(settings.nats_url, "listener")
    started: list[Reading] = []

    async def start(lease_seconds: float) -> Reading:
        started.append(Reading(js, lease_seconds))
        await started[-1].start(listener)
        return started[-1]

    yield start
    for each in started:
        await each.feed.leave()
    await listener.close()


async def test_half_is_used_before_more_is_asked_for(reading: Callable[[float], Any]) -> None:
    one: Reading = await reading(60)
    await one.publish(4)
    await one.js.nc.flush()
    await one.publish(0)
    assert one.asked == 1
    await one.publish(1)
    await eventually(lambda: one.asked == 2)


async def test_messages_one_by_one_come_at_once(reading: Callable[[float], Any]) -> None:
    """None waits for a request, and none for a request's end, which is 5 seconds later."""
    one: Reading = await reading(60)
    async with asyncio.timeout(30):
        for _ in range(100):
            await one.publish(1)
    assert 10 <= one.asked <= 100 / (BATCH / 2) + 1


async def test_each_of_several_requests_ends_by_itself(reading: Callable[[float], Any]) -> None:
    """A second is out while the first has some left; both expire, and more are asked for then."""
    one: Reading = await reading(2)
    for _ in range(3):
        asked = one.asked
        await one.publish(BATCH // 2)
        await eventually(lambda asked=asked: one.asked >= asked + 2, message="both are renewed")  # type: ignore[misc]
    assert 1 <= await one.waiting() <= 2
    await one.publish(5 * BATCH)


async def test_a_pin_that_came_while_it_was_closed_is_not_waited_for(
    reading: Callable[[float], Any],
) -> None:
    """The message that brings the pin is on its way when a seek closes the feed."""
    one: Reading = await reading(60)
    one.feed.open = False
    await one.js.nc.publish(MESSAGES, b"0")

    async def pinned() -> bool:
        delivered, _ = await one.feed.durable.progress()
        return delivered.number == 1

    await eventually(pinned)
    await one.feed.seek(None)
    await eventually(lambda: one.come(1))


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_lost_request_is_asked_again(
    reading: Callable[[float], Any], lost: int, monkeypatch: pytest.MonkeyPatch, js: JetStream
) -> None:
    """The first one, or the second while the first is half used."""
    publish, seen = js.nc.publish, list[str]()

    async def losing(subject: str, *args: Any, **options: Any) -> None:
        if "MSG.NEXT" in subject:
            seen.append(subject)
        if "MSG.NEXT" not in subject or len(seen) != lost:
            await publish(subject, *args, **options)

    monkeypatch.setattr(js.nc, "publish", losing)
    one: Reading = await reading(4)  # less, and the server takes the pin from who does not ask
    for _ in range(4):
        await one.publish(BATCH)
    assert len(seen) > one.asked, "one was lost"


async def test_acks_are_looked_after_only_when_something_happened(
    reading: Callable[[float], Any], js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    one: Reading = await reading(60)
    progress, looks = one.feed.durable.progress, list[None]()

    async def counted() -> Any:
        looks.append(None)
        return await progress()

    monkeypatch.setattr(one.feed.durable, "progress", counted)

    async def looked() -> bool:
        before = len(looks)
        assert not await one.feed.is_out_of_step(await js.state(TOPIC))
        return len(looks) > before

    assert await looked()
    assert not await looked()
    await one.publish(1)
    assert await looked()
    assert await looked(), "its ack may be ignored"
    ack = one.feed.out.ready({one.feed.out[-1].last})
    assert ack is not None
    await one.feed.ack(ack)
    one.feed.out.popleft()
    await js.ping()
    assert await looked()
    assert not await looked()
