"""A stream on several servers gets a new leader while a batch is under way."""

import asyncio
from typing import Any

import pytest

from pipeline.coordination.partitioning import ensure_balance_stream
from pipeline.forwarder.stream_publisher import NEW_LEADER, PublisherCounters, StreamPublisher
from pipeline.messaging import TOKEN_SUBJECT, JetStream, OutgoingMessage
from pipeline.support.settings import Settings
from tests.harness import eventually


async def test_the_answer_of_the_leader_before_is_not_waited_for(
    settings: Settings, js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_balance_stream(js, settings)
    publisher, sent = StreamPublisher(js, PublisherCounters()), asyncio.Event()
    await publisher.begin()

    async def unanswered(*_: Any) -> int:
        sent.set()
        return await asyncio.Event().wait()

    async with publisher.following():
        with monkeypatch.context() as patched:
            patched.setattr(js, "publish_batch", unanswered)
            batch = [OutgoingMessage(TOKEN_SUBJECT, b"")]
            publishing = asyncio.create_task(publisher.publish(batch, "token"))
            await sent.wait()
            await js.nc.publish(NEW_LEADER)
            await eventually(publishing.done)
        assert isinstance(publishing.exception(), TimeoutError)
        await publisher.publish(batch, "token")
