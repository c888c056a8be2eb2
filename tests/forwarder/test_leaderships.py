"""A stream on several servers gets a new leader while a batch is under way."""

import asyncio
from typing import Any

import pytest

from pipeline.coordination.partitioning import ensure_log
from pipeline.forwarder.stream_publisher import NEW_LEADER, PublisherCounters, StreamPublisher
from pipeline.messaging import JetStream, OutgoingMessage
from pipeline.support.settings import Settings
from tests.harness import eventually
from tests.names import STREAM, TOKEN_SUBJECT


async def test_the_answer_of_the_leader_before_is_not_waited_for(
    settings: Settings, js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_log(js, settings)
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
            await js.nc.publish(f"{NEW_LEADER}.{STREAM}")
            await eventually(publishing.done)
        assert isinstance(publishing.exception(), TimeoutError)
        await publisher.publish(batch, "token")
