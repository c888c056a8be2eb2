"""Every private part of Faust that the bridge touches, each with the reason.

They hold for faust-streaming 0.15.3, which is why that version is pinned.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import faust
from faust import streams
from faust.assignor.client_assignment import ClientAssignment
from faust.types import TP, ConsumerMessage

from pipeline.messaging import JetStream


class Wired(Protocol):
    """What recovery needs of the transport."""

    app: Any
    js: JetStream

    async def last_sequence(self, tp: TP) -> int: ...


def resubscribe_soon(app: faust.App) -> None:
    """A restarted agent hears nothing until the conductor has subscribed again; by default 45 s."""
    app.topics._resubscribe_sleep_lock_seconds = 0.2


def is_changelog(app: faust.App, tp: TP) -> bool:
    """Is it the changelog of a table? (`tables.changelog_topics` is computed by every call.)"""
    return tp.topic in app.tables._changelogs


def table_of(app: faust.App, tp: TP) -> Any:
    """The table of a changelog's partition."""
    return app.tables._changelogs[tp.topic]


def topics_with_schema(app: faust.App, schema: type) -> set[str]:
    """Names of the topics that agents read with such a schema."""
    return {
        name
        for channel in app.topics._topics
        if isinstance(channel.schema, schema)
        for name in channel.topics
    }


def message(
    app: faust.App, tp: TP, offset: int, seconds: float, key: bytes | None, value: Any
) -> ConsumerMessage:
    """A message of the consumer's present generation."""
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        offset,
        seconds,
        0,
        None,
        key,
        value,
        None,
        None,
        None,
        tp=tp,
        generation_id=app.consumer_generation_id,
    )


def reindex(app: faust.App, assigned: set[TP]) -> None:
    """Connect agents to partitions. All partitions at once: isolated agents assert a subset."""
    app.topics._update_tp_index(assigned)
    app.topics._update_callback_map()


def set_assignment(app: faust.App, tps: set[TP]) -> None:
    """Set what Kafka's coordinator would have sent to the assignor: tables and routes read it."""
    actives: dict[str, list[int]] = {}
    for tp in sorted(tps):
        actives.setdefault(tp.topic, []).append(tp.partition)
    changelogs = set(app.tables._changelogs)
    url = str(app.conf.canonical_url)
    assignor = app.assignor
    assignor._assignment = ClientAssignment(actives=actives, standbys={})
    assignor._active_tps = set(tps)
    assignor._topic_groups = dict.fromkeys(actives, 0)
    assignor.changelog_distribution = {
        url: {topic: parts for topic, parts in actives.items() if topic in changelogs}
    }
    assignor.external_topic_distribution = {
        url: {topic: parts for topic, parts in actives.items() if topic not in changelogs}
    }
    app._assignment = set(tps)


def revoke(consumer: Any, gone: set[TP]) -> None:
    """Remove partitions from queues, index and tables.

    The conductor's callbacks stay: a record that was fetched already must find one.
    """
    app = consumer.app
    for channel in app.topics._topics:
        queued = channel.queue._queue
        for event in [event for event in queued if event.message.tp in gone]:
            queued.remove(event)
    for tp in gone:
        forget_partition(consumer, tp)
        app.topics._tp_index.pop(tp, None)
        app.tables.recovery.revoke(tp)
        app.tables.recovery.active_tps.discard(tp)
    _forget_tables(app.tables.values(), {tp.partition for tp in gone})


@contextmanager
def writing_tables(event: faust.EventT[Any]) -> Iterator[None]:
    """Tables can be written in the body, in the event's partition: a table learns it from the event
    that a stream is at, and refuses to be written outside of an agent's loop."""
    token = streams._current_event.set(weakref.ref(event))
    try:
        yield
    finally:
        streams._current_event.reset(token)


def forget_acked(consumer: Any, tp: TP, last: int) -> None:
    """All up to that offset is acked at the server: Faust's index of done ones need not keep it."""
    consumer._acked_index[tp] = {kept for kept in consumer._acked_index[tp] if kept > last}
    if tp in consumer._acked:
        consumer._acked[tp] = [kept for kept in consumer._acked[tp] if kept > last]


def forget_partition(consumer: Any, tp: TP) -> None:
    """Clear Faust's bookkeeping of done offsets: the messages will be delivered again."""
    for index in (consumer._gap, consumer._acked, consumer._acked_index):
        index.pop(tp, None)


def ready(consumer: Any) -> None:
    """The first assignment is complete: what `Recovery._resume_streams` does at its end."""
    app = consumer.app
    recovery = app.tables.recovery
    if recovery.completed.is_set():
        return
    for table in app.tables.values():
        _note_partitions(table)
    recovery.completed.set()
    app.flow_control.resume()
    consumer.resume_flow()
    consumer.add_future(app._fetcher.maybe_start())
    app.tables.on_actives_ready()
    app.tables.on_standbys_ready()


def _note_partitions(table: Any) -> None:
    """Note each written key's partition: the memory store only learns it by recovery, and needs it
    to forget a partition's keys."""
    partitions = getattr(table.data, "_key_partition", None)
    if partitions is None:
        return
    send = table.send_changelog

    def send_and_note(partition: int | None, key: Any, *args: Any, **kwargs: Any) -> Any:
        partitions[key] = partition
        return send(partition, key, *args, **kwargs)

    table.send_changelog = send_and_note


def _forget_tables(tables: Iterable[Any], partitions: set[int]) -> None:
    for table in tables:
        owner = getattr(table.data, "_key_partition", {})
        for key in [key for key, partition in owner.items() if partition in partitions]:
            table.data.data.pop(key, None)
            del owner[key]
