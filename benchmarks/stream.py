"""Events put into a stream as the forwarder puts them there."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from pipeline.events import Event
from pipeline.jetstream import JetStream, Outgoing
from pipeline.outgoing import outgoing
from pipeline.settings import Settings

BATCH: Final = 1000
ROOM: Final = 1_000_000


def messages_of(events: Iterable[Event], partitions: int) -> list[Outgoing]:
    """The events as messages of the balance stream."""
    messages, skipped = outgoing(events, partitions, ROOM)
    assert not skipped
    return messages


def batches(messages: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    """At most as many as may go in one atomic batch."""
    return (messages[start : start + BATCH] for start in range(0, len(messages), BATCH))


async def publish(js: JetStream, stream: str, messages: Sequence[Outgoing]) -> None:
    """Publish in atomic batches, at the end of the stream."""
    state = await js.state(stream)
    assert state is not None
    last = state.last
    for batch in batches(messages):
        last = await js.publish_batch(batch, last)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[JetStream]:
    js = await JetStream.connect(settings.nats_url, "benchmark")
    try:
        yield js
    finally:
        await js.close()
