"""A write that JetStream can't take now, for want of room or of a leader, is kept until it can."""

import asyncio
from typing import Any

import faust
import pytest

from pipeline.bridge.producer import Producer
from pipeline.messaging import JetStream, JetStreamError
from pipeline.support.settings import Settings
from tests.harness import eventually


async def test_a_changelog_write_waits_for_room(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.bridge.producer._FULL_SECONDS", 0.1)
    js = await JetStream.connect(settings.nats_url, "test")
    await js.ensure_stream("small", ["small.>"], max_bytes=3000, discard="new")
    await js.publish("small.0", bytes(2000))
    app = faust.App("test", broker=settings.nats_url, store="memory://", loghandlers=[])
    producer: Producer = app.transport.create_producer()
    await app.transport.connect()
    sent = await producer.send("small", b"k", bytes(2000), 0, None, None)
    await eventually(lambda: app.transport.full() == "maximum bytes exceeded (10077)")
    assert not sent.done()
    await js.api("STREAM.PURGE.small")
    async with asyncio.timeout(20):
        await sent
    assert app.transport.full() == ""
    await producer.on_stop()
    await js.close()


async def test_what_waits_for_room_holds_up_no_commit_and_no_stop(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.bridge.producer._FULL_SECONDS", 0.1)
    monkeypatch.setattr("pipeline.bridge.private.is_changelog", lambda *_: True)
    js = await JetStream.connect(settings.nats_url, "test")
    await js.ensure_stream("small", ["small.>"], max_bytes=9000, discard="new")
    await js.publish("small.1", bytes(8000))
    app = faust.App("test", broker=settings.nats_url, store="memory://", loghandlers=[])
    producer: Producer = app.transport.create_producer()
    await app.transport.connect()
    first = [await producer.send("small", b"k", bytes(2000), 0, None, None) for _ in range(2)]
    await eventually(lambda: app.transport.full() and producer._writes)
    async with asyncio.timeout(3):
        assert await producer.flush()
    for n in range(1000):
        assert (await producer.send("small", b"k", b"%d" % n, 0, None, None)).done()
    assert len(producer._writes) == 2
    assert not first[0].done()
    await js.api("STREAM.PURGE.small")
    async with asyncio.timeout(20):
        await asyncio.gather(*first)
    last = await js.last_message("small")
    assert last is not None
    assert last.data == b"999"
    await (await producer.send("small", b"k", b"after", 0, None, None))
    assert not producer._tail
    assert not producer._newer
    await producer.on_stop()
    await js.close()


async def test_a_write_waits_for_a_leader(
    settings: Settings, js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that is one no more answers with an error, which is no refusal."""
    await js.ensure_stream("small", ["small.>"])
    app = faust.App("test", broker=settings.nats_url, store="memory://", loghandlers=[])
    producer: Producer = app.transport.create_producer()
    await app.transport.connect()
    publish, errors = app.transport.publish, [JetStreamError(503, "raft: not leader")]

    async def failing(*args: Any) -> int:
        if errors:
            raise errors.pop()
        return int(await publish(*args))

    monkeypatch.setattr(app.transport, "publish", failing)
    async with asyncio.timeout(20):
        stored = await producer.send_and_wait("small", b"k", b"v", 0, None, None)
    assert stored.offset == 1
    await producer.on_stop()
