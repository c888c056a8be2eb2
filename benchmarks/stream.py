"""Events put into a stream as the forwarder puts them there."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.messaging import JetStream, OutgoingMessage
from pipeline.messaging.event_messages import event_messages
from pipeline.model.events import Event
from pipeline.support.settings import Settings

BATCH: Final = 1000
ROOM: Final = 1_000_000
_HELD: Final = timedelta(minutes=5)


def messages_of(events: Iterable[Event], partitions: int) -> list[OutgoingMessage]:
    """The events as messages of the balance stream."""
    messages, skipped = event_messages(events, partitions, ROOM)
    assert not skipped
    return messages


def batches(messages: Sequence[OutgoingMessage]) -> Iterator[Sequence[OutgoingMessage]]:
    """At most as many as may go in one atomic batch."""
    return (messages[start : start + BATCH] for start in range(0, len(messages), BATCH))


async def publish(js: JetStream, stream: str, messages: Sequence[OutgoingMessage]) -> None:
    """Publish in atomic batches, at the end of the stream."""
    state = await js.state(stream)
    assert state is not None
    last = state.last
    for batch in batches(messages):
        last = await js.publish_batch(batch, last)


async def publish_held(
    js: JetStream,
    stream: str,
    messages: Sequence[OutgoingMessage],
    published: Callable[[], None] = lambda: None,
) -> None:
    """`publish`, and let the readers have the first message when nearly all are stored; just
    before that, call `published`.

    Each partition's last message is published when its readers may have it: without a new message
    the server leaves a consumer that it resumed alone till the next request, seconds later.
    """
    last = {_partition(each): each for each in messages}
    ends = set(map(id, last.values()))
    async with held(js, stream):
        await publish(js, stream, [each for each in messages if id(each) not in ends])
        published()
    await publish(js, stream, list(last.values()))


def _partition(message: OutgoingMessage) -> str:
    return message.subject.split(".")[1]


@asynccontextmanager
async def held(js: JetStream, stream: str) -> AsyncIterator[None]:
    """The stream's readers get nothing while the block runs, and then all that is there at once.

    So who publishes takes nothing of the machine from those who read.
    """
    consumers = (await js.api(f"CONSUMER.NAMES.{stream}"))["consumers"] or []
    until = {"pause_until": (datetime.now(UTC) + _HELD).isoformat()}
    try:
        for name in consumers:
            await js.api(f"CONSUMER.PAUSE.{stream}.{name}", until)
        yield
    finally:
        await asyncio.gather(*(js.api(f"CONSUMER.PAUSE.{stream}.{name}", {}) for name in consumers))


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[JetStream]:
    js = await JetStream.connect(settings.nats_url, "benchmark")
    try:
        yield js
    finally:
        await js.close()
