"""Reads one changelog partition back into its table: Faust's Recovery, for one partition alone."""

from faust.types import TP
from nats.js.api import DeliverPolicy

from pipeline.bridge import private
from pipeline.bridge.changelog_subjects import key_in
from pipeline.bridge.feed import position_of

_CHUNK = 500


async def recover(transport: private.Wired, tp: TP) -> int:
    """Apply every message of the partition that exists now; return how many there were.

    The stream keeps one message a key, so this is as long as the table, not as its history.
    """
    last = await transport.last_sequence(tp)
    if not last:
        return 0
    table = private.table_of(transport.app, tp)
    subscription = await transport.js.context.subscribe(
        f"{tp.topic}.{tp.partition}.>",
        stream=tp.topic,
        ordered_consumer=True,
        deliver_policy=DeliverPolicy.ALL,
    )
    count, sequence, events = 0, 0, []
    try:
        while sequence < last:
            message = await subscription.next_msg(timeout=10)
            position = position_of(message.reply.encode())
            sequence, count = position.stream, count + 1
            transport.app.producer.note_sequence(message.subject, sequence)
            key = key_in(message.subject)
            raw = private.message(
                transport.app, tp, sequence, position.seconds, key, message.data or None
            )
            events.append(await table.changelog_topic.decode(raw))
            if len(events) >= _CHUNK or sequence >= last:
                table.apply_changelog_batch(events)
                events.clear()
    finally:
        await subscription.unsubscribe()
    return count
