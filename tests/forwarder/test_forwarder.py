"""The forwarder: every event once and in order, through kills, pauses, purges and lost history."""

import asyncio
import itertools
import logging
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import orjson
import pytest
from nats.aio.client import Client, ServerVersion
from nats.js.api import ConsumerConfig, DeliverPolicy
from pymongo import MongoClient

from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.coordination.partitioning import ensure_log
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore
from pipeline.forwarder import service
from pipeline.forwarder.stream_publisher import PublisherCounters
from pipeline.messaging import (
    MARKER,
    TOKEN_HEADER,
    JetStream,
    OutgoingMessage,
    ServerTooOld,
    StoredMessage,
)
from pipeline.model.events import SLOTS, Event, new_event, partition_of
from pipeline.support.settings import Settings
from tests.harness import LONG_LANE, Role, eventually, rounds
from tests.names import STREAM, TOKEN_SUBJECT, subject

FORWARDER = ("bank", "forwarder")
Start = Callable[..., Awaitable[Role]]


class Load:
    """Appends events to some accounts until it is stopped."""

    def __init__(self, store: EventStore, accounts: int = 40, pause: float = 0.02) -> None:
        self._store, self._accounts, self._pause = store, accounts, pause
        self._versions: dict[str, int] = defaultdict(int)
        self._tasks: list[asyncio.Task[None]] = []
        self.stored = 0
        self._over = False

    async def __aenter__(self) -> "Load":
        for worker in range(8):
            self._tasks.append(asyncio.create_task(self._write(worker)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True  # an append that is cancelled may yet be stored, and nobody counts it
        await asyncio.gather(*self._tasks)

    async def more(self, number: int) -> None:
        """Wait until so many more events are stored."""
        target = self.stored + number
        await eventually(lambda: self.stored >= target, seconds=60, message=f"{number} stored")

    async def _write(self, worker: int) -> None:
        for number in itertools.cycle(range(worker, self._accounts, 8)):
            await self._store.append(self._next(f"{number:026d}"))
            self.stored += 1
            if self._over:
                return
            await asyncio.sleep(self._pause)

    def _next(self, account_id: str) -> Event:
        self._versions[account_id] += 1
        return deposit(account_id, self._versions[account_id])


def deposit(account_id: str, version: int) -> Event:
    return new_event(account_id, version, DEPOSITED if version > 1 else CREATED, {"money": 1})


async def append(store: EventStore, number: int, prefix: str = "") -> list[Event]:
    """Open so many accounts."""
    events = [deposit(f"{prefix}{n:0{26 - len(prefix)}d}", 1) for n in range(number)]
    await asyncio.gather(*(store.append(event) for event in events))
    return events


async def messages(js: JetStream) -> list[StoredMessage]:
    """Everything that is in the stream, in its order."""
    state = await js.state(STREAM)
    if state is None or not state.messages:
        return []
    subscription = await js.context.subscribe(
        ">",
        stream=STREAM,
        ordered_consumer=True,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL),
    )
    found: list[StoredMessage] = []
    while not found or found[-1].sequence < state.last:
        message = await subscription.next_msg(timeout=10)
        sequence = message.metadata.sequence.stream
        found.append(
            StoredMessage(message.subject, message.data, dict(message.headers or {}), sequence)
        )
    await subscription.unsubscribe()
    return found


def ids(stream: list[StoredMessage]) -> list[str]:
    """The event ids in a stream: markers and tokens have none."""
    return [orjson.loads(each.data)["_id"] for each in stream if "_id" in (each.data.decode())]


def markers(stream: list[StoredMessage]) -> list[int]:
    """The sequences of the markers."""
    return [each.sequence for each in stream if each.data == MARKER]


async def in_store(store: EventStore) -> list[Event]:
    return [event async for events in store.replay(range(SLOTS)) for event in events]


async def exactly_once(store: EventStore, js: JetStream) -> bool:
    """Whether the stream holds just the store's events, accounts in order; False: not yet all."""
    stored = {event["_id"]: event for event in await in_store(store)}
    stream = await messages(js)
    found = ids(stream)
    assert len(found) == len(set(found)), "an event is in the stream twice"
    assert set(found) <= stored.keys()
    versions: dict[str, int] = defaultdict(int)
    partitions = (await js.api(f"STREAM.INFO.{STREAM}"))["config"]["metadata"]["partitions"]
    for message in stream:
        body = orjson.loads(message.data) if message.data else {}
        if event := stored.get(body.get("_id", "")):
            assert event["version"] == versions[event["account_id"]] + 1, "out of order"
            versions[event["account_id"]] += 1
            slot = partition_of(event["slot"], int(partitions))
            assert message.subject == subject(slot)
    return len(found) == len(stored)


async def running(js: JetStream, sequence: int = 0) -> None:
    """Wait until a forwarder has written into the stream beyond a sequence."""

    async def check() -> bool:
        last = await js.last_message(STREAM)
        return last is not None and last.sequence > sequence

    assert await eventually(check, message="the forwarder writes")


async def test_each_event_once_and_a_marker_for_each_partition_first(
    settings: Settings, store: EventStore, js: JetStream, role: Start
) -> None:
    before = await append(store, 50, "a")
    forwarder = await role(*FORWARDER)
    await running(js)
    after = await append(store, 500, "b")
    assert await eventually(lambda: forwarded(js, after))
    stream = await messages(js)
    assert markers(stream) == list(range(1, settings.partitions + 1))
    assert {each.subject for each in stream[: settings.partitions]} == {
        subject(p) for p in range(settings.partitions)
    }
    assert not set(ids(stream)) & {event["_id"] for event in before}, "the markers stand for them"
    by_id = {event["_id"]: event for event in after}
    for message in stream[settings.partitions :]:
        event = by_id[message.headers["Nats-Msg-Id"]]
        body = orjson.loads(message.data)
        assert body.pop("created_at").endswith("Z")
        assert body == {key: value for key, value in event.items() if key != "created_at"}
    assert await forwarder.stop() == 0, forwarder.log()


async def forwarded(js: JetStream, events: list[Event]) -> bool:
    return {event["_id"] for event in events} <= set(ids(await messages(js)))


async def test_a_killed_forwarder_forwards_every_event_once(
    store: EventStore, js: JetStream, role: Start
) -> None:
    forwarder = await role(*FORWARDER)
    await running(js)
    async with Load(store) as load:
        for _ in range(rounds(4, 20)):
            await load.more(150)
            await forwarder.kill()
            last = await js.last_message(STREAM)
            await forwarder.start()
            await running(js, last.sequence if last else 0)
    assert await eventually(lambda: exactly_once(store, js), every=0.5)
    assert len(markers(await messages(js))) == 8
    assert load.stored > 400


async def test_a_paused_leader_is_rejected_by_the_log_when_it_wakes(
    store: EventStore, js: JetStream, role: Start
) -> None:
    leader = await role(*FORWARDER)
    await running(js)
    standby = await role(*FORWARDER)
    async with Load(store) as load:
        for _ in range(rounds(2, 6)):
            await load.more(100)
            await leader.kill(signal.SIGSTOP)
            times = standby.log().count("Leading from")
            await eventually(lambda s=standby, t=times: s.log().count("Leading from") > t)  # type: ignore[misc]
            last = await js.last_message(STREAM)
            await running(js, last.sequence if last else 0)
            rejected = leader.log().count("was rejected")
            await leader.kill(signal.SIGCONT)
            await eventually(
                lambda a=leader, r=rejected: a.log().count("was rejected") > r,  # type: ignore[misc]
                message="the log rejects what the sleeper publishes",
            )
            leader, standby = standby, leader
    assert await eventually(lambda: exactly_once(store, js), every=0.5)
    assert len(markers(await messages(js))) == 8


async def test_a_standby_takes_over(
    settings: Settings, store: EventStore, js: JetStream, role: Start
) -> None:
    leader = await role(*FORWARDER)
    await running(js)
    standby = await role(*FORWARDER)
    await append(store, 10, "a")
    await leader.kill()
    killed = asyncio.get_running_loop().time()
    await append(store, 10, "b")
    await eventually(lambda: "Leading from" in standby.log())
    assert asyncio.get_running_loop().time() - killed < settings.lease_seconds + 10
    assert await eventually(lambda: exactly_once(store, js))
    await leader.start()
    assert await standby.stop() == 0, standby.log()
    await append(store, 10, "c")
    assert await eventually(lambda: exactly_once(store, js))


async def test_two_that_both_believe_to_lead_double_nothing(
    store: EventStore, js: JetStream, settings: Settings
) -> None:
    """Without any lease between them the log alone keeps it right."""
    other = settings.model_copy(update={"redis_url": settings.redis_url + "/1"})
    counters = [PublisherCounters(), PublisherCounters()]
    pair = [
        asyncio.create_task(service.run(each, counters=counter))
        for each, counter in zip((settings, other), counters, strict=True)
    ]
    await running(js)
    async with Load(store) as load:
        await load.more(rounds(600, 3000))
    assert await eventually(lambda: exactly_once(store, js), every=0.5)
    await cancelled(*pair)
    assert sum(counter.fenced for counter in counters) > 0


async def cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.fixture
async def inside(settings: Settings, js: JetStream) -> AsyncIterator[PublisherCounters]:
    """A forwarder in this process, that has begun."""
    counters, stop = PublisherCounters(), asyncio.Event()
    quick = settings.model_copy(update={"token_seconds": 0.5})
    task = asyncio.create_task(service.run(quick, stop=stop, counters=counters))
    await running(js)
    yield counters
    stop.set()
    async with asyncio.timeout(20):
        await task


async def backfills(
    js: JetStream, store: EventStore, counters: PublisherCounters, before: int
) -> None:
    """Wait for another resync; later events come once, after the markers."""
    await eventually(lambda: counters.resyncs > before, message="markers")
    assert await eventually(lambda: marked(js), message="markers in the stream")
    later = await append(store, 40, f"later{before}-")
    assert await eventually(lambda: forwarded(js, later))
    stream = await messages(js)
    assert len(markers(stream)) == 8
    newest = {event["_id"] for event in later}
    positions = [each.sequence for each in stream if each.headers.get("Nats-Msg-Id") in newest]
    assert len(positions) == 40
    assert max(markers(stream)) < min(positions)


async def marked(js: JetStream) -> bool:
    return len(markers(await messages(js))) == 8


@pytest.mark.parametrize("busy", [False, True])
async def test_a_purged_stream_gets_markers(
    store: EventStore, js: JetStream, inside: PublisherCounters, busy: bool
) -> None:
    await append(store, 100, "a")
    await eventually(lambda: inside.forwarded == 100)
    if not busy:
        await js.api(f"STREAM.PURGE.{STREAM}")
        return await backfills(js, store, inside, 1)
    async with Load(store) as load:
        await load.more(50)
        await js.api(f"STREAM.PURGE.{STREAM}")
        await eventually(lambda: inside.resyncs > 1)
        await load.more(50)
    await eventually(lambda: inside.forwarded == 100 + load.stored)
    return None


async def test_one_partition_purged_gets_markers(
    store: EventStore, js: JetStream, inside: PublisherCounters
) -> None:
    await append(store, 100, "a")
    await eventually(lambda: inside.forwarded == 100)
    await js.api(f"STREAM.PURGE.{STREAM}", {"filter": subject(3)})
    await eventually(lambda: inside.resyncs == 2)


async def test_a_deleted_stream_is_made_anew_with_markers(
    store: EventStore, js: JetStream, inside: PublisherCounters
) -> None:
    await append(store, 100, "a")
    await eventually(lambda: inside.forwarded == 100)
    await js.api(f"STREAM.DELETE.{STREAM}")
    await backfills(js, store, inside, 1)


async def test_a_stream_deleted_and_made_by_another_gets_markers(
    settings: Settings, store: EventStore, js: JetStream, inside: PublisherCounters
) -> None:
    await append(store, 100, "a")
    await eventually(lambda: inside.forwarded == 100)
    await js.api(f"STREAM.DELETE.{STREAM}")
    await ensure_log(js, settings)
    await append(store, 10, "b")
    await backfills(js, store, inside, 1)


async def test_a_stream_purged_while_no_one_forwarded_gets_markers(
    settings: Settings, store: EventStore, js: JetStream, role: Start
) -> None:
    first = await role(*FORWARDER)
    await running(js)
    await append(store, 10, "a")
    assert await eventually(lambda: exactly_once(store, js))
    await first.stop()
    await append(store, 10, "b")
    await js.api(f"STREAM.PURGE.{STREAM}")
    await first.start()
    assert await eventually(lambda: marked(js))
    later = await append(store, 10, "c")
    assert await eventually(lambda: forwarded(js, later))
    assert set(ids(await messages(js))) == {event["_id"] for event in later}


async def test_lost_history_gets_markers(
    settings: Settings, store: EventStore, js: JetStream, inside: PublisherCounters
) -> None:
    """The collection is dropped and made anew: no token of the old one is good."""
    await append(store, 10, "a")
    await eventually(lambda: inside.forwarded == 10)
    with MongoClient[Event](settings.mongodb_url, retryWrites=False) as client:
        client[settings.mongodb_database].drop_collection("events")
    await eventually(lambda: inside.resyncs == 2)
    await store.setup()
    later = await append(store, 10, "b")
    assert await eventually(lambda: forwarded(js, later))


@pytest.mark.parametrize("token", ['{"nonsense": 1}', "x", ""])
async def test_a_token_nobody_can_use_gets_markers(
    settings: Settings, store: EventStore, js: JetStream, role: Start, token: str
) -> None:
    await ensure_log(js, settings)
    await js.publish_batch([OutgoingMessage(TOKEN_SUBJECT, b"", {TOKEN_HEADER: token})], 0)
    await role(*FORWARDER)
    assert await eventually(lambda: marked(js))


async def test_a_message_of_a_stranger_gets_markers(
    store: EventStore, js: JetStream, inside: PublisherCounters
) -> None:
    await append(store, 10, "a")
    await eventually(lambda: inside.forwarded == 10)
    await js.context.publish(subject(0), b"by hand")
    later = await append(store, 10, "b")
    await eventually(lambda: inside.resyncs == 2)
    assert inside.fenced == 1
    await append(store, 1, "c")
    assert not set(ids(await messages(js))) & {event["_id"] for event in later}
    await eventually(lambda: inside.forwarded == 11)


async def test_the_token_is_renewed_when_it_is_quiet_and_only_then(
    settings: Settings, store: EventStore, js: JetStream, inside: PublisherCounters
) -> None:
    await append(store, 10, "a")
    await eventually(lambda: inside.forwarded == 10)

    async def elsewhere() -> StoredMessage | None:
        """The oplog moves on by what another collection gets."""
        with MongoClient[dict[str, int]](settings.mongodb_url, retryWrites=False) as client:
            client[settings.mongodb_database]["other"].insert_one({"x": 1})
        return await js.last_message(STREAM, TOKEN_SUBJECT)

    renewed = await eventually(elsewhere, every=0.3)
    assert renewed is not None
    assert renewed.headers[TOKEN_HEADER]
    assert renewed.data == b""
    later = await append(store, 10, "b")
    assert await eventually(lambda: forwarded(js, later))


async def test_ids_that_the_server_remembers_do_not_hold_up_the_bank(
    settings: Settings, store: EventStore, js: JetStream, inside: PublisherCounters
) -> None:
    """An event that was deleted and restored has an id that the stream saw a moment ago."""
    events = await append(store, 3, "a")
    await eventually(lambda: inside.forwarded == 3)
    with MongoClient[Event](settings.mongodb_url, retryWrites=False) as client:
        collection = client[settings.mongodb_database]["events"]
        collection.delete_one({"_id": events[0]["_id"]})
        collection.insert_one(events[0])
    later = await append(store, 3, "b")
    assert await eventually(lambda: forwarded(js, later), seconds=60)
    found = ids(await messages(js))
    assert found.count(events[0]["_id"]) == 2
    assert len(found) == 7


async def test_what_is_no_event_is_skipped_and_named(
    settings: Settings,
    store: EventStore,
    js: JetStream,
    inside: PublisherCounters,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = deposit("g" * 26, 1)
    poison: list[dict[str, object]] = [
        {"_id": "no-slot", "account_id": "x"},
        {"_id": "no-account", "slot": 3},
        {**good, "_id": "other-slot", "slot": (good["slot"] + 1) % SLOTS},
        {**good, "_id": "version-0", "version": 0},
        {**good, "_id": "version-text", "version": "1"},
        {**good, "_id": "bytes", "version": 2, "body": {"owner": b"\x00"}},
        {**good, "_id": "line\nbreak", "version": 3},
        {**good, "_id": 5, "version": 4},
        {**good, "_id": "huge", "version": 5, "body": {"owner": "x" * 2_000_000}},
    ]
    with MongoClient[dict[str, object]](settings.mongodb_url, retryWrites=False) as client:
        client[settings.mongodb_database]["events"].insert_many(poison)
    with caplog.at_level(logging.ERROR):
        await store.append(good)
        await eventually(lambda: inside.forwarded == 1)
    assert inside.skipped == len(poison)
    assert all(repr(each["_id"]) in caplog.text for each in poison)
    assert ids(await messages(js)) == [good["_id"]]


async def test_the_number_of_partitions_is_the_streams(
    settings: Settings, store: EventStore, js: JetStream, role: Start
) -> None:
    await ensure_log(js, settings.model_copy(update={"partitions": 3}))
    await role(*FORWARDER)
    await running(js)
    events = await append(store, 100, "a")
    assert await eventually(lambda: forwarded(js, events))
    stream = await messages(js)
    assert len(markers(stream)) == 3
    assert {each.subject for each in stream} == {subject(p) for p in range(3)}


async def test_a_cancellation_that_is_swallowed_still_ends_it(
    settings: Settings, store: EventStore, js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`asyncio.wait_for` may swallow one when its result comes at the same moment."""
    publish, publishing = JetStream.publish_batch, asyncio.Event()

    async def swallowing(
        self: JetStream, messages: list[OutgoingMessage], expected: int, batch: str | None = None
    ) -> int:
        sequence = await publish(self, messages, expected, batch)
        if expected:
            publishing.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(30)
        return sequence

    monkeypatch.setattr(JetStream, "publish_batch", swallowing)
    task = asyncio.create_task(service.run(settings))
    await running(js)
    async with Load(store), asyncio.timeout(20):
        await publishing.wait()
        await cancelled(task)


async def test_an_older_server_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = ServerVersion("2.10.29")
    monkeypatch.setattr(Client, "connected_server_version", version)
    with pytest.raises(ServerTooOld, match=r"2\.10\.29.*2\.14"):
        await service.run(settings)


@LONG_LANE
async def test_servers_that_go_and_come_back_are_outlasted(
    own_servers: EmbeddedServers, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts before its servers do; then each of them dies under load, and then all at once."""
    settings = own_servers.settings
    names = ["nats", "mongodb", "redis"]
    servers = [own_servers.servers[name] for name in names]
    await asyncio.gather(*(server.kill() for server in servers))
    counters = PublisherCounters()
    task = asyncio.create_task(service.run(settings, counters=counters))
    await eventually(lambda: "does not answer: waiting" in caplog.text)
    await asyncio.gather(*(server.start() for server in servers))
    js = await JetStream.connect(settings.nats_url, "test")
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await running(js)
    async with Load(store) as load:
        for dying in [*([server] for server in servers), servers]:
            await load.more(50)
            await asyncio.gather(*(server.kill() for server in dying))
            await asyncio.sleep(1)
            await asyncio.gather(*(server.start() for server in dying))
            target = counters.forwarded + 20
            await eventually(lambda t=target: counters.forwarded > t, seconds=60)  # type: ignore[misc]
    assert await eventually(lambda: exactly_once(store, js), every=0.5, seconds=60)
    assert len(markers(await messages(js))) == settings.partitions
    await cancelled(task)
    await js.close()
    await store.close()


async def test_a_forwarder_that_was_away_longer_than_the_oplog_gets_markers(
    own_servers: EmbeddedServers,
) -> None:
    settings, server = own_servers.settings, own_servers.servers["mongodb"]
    await server.kill()
    server._binary = replace(
        server._binary,
        command=lambda *where, _=server._binary.command: [*_(*where), "--oplog-max-entries", "50"],
    )
    await server.start()
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    js = await JetStream.connect(settings.nats_url, "test")
    first, second = PublisherCounters(), PublisherCounters()
    task = asyncio.create_task(service.run(settings, counters=first))
    await running(js)
    await append(store, 10, "a")
    await eventually(lambda: first.forwarded == 10)
    await cancelled(task)
    missed = await append(store, 1500, "b")
    task = asyncio.create_task(service.run(settings, counters=second))
    await eventually(lambda: second.resyncs == 1)
    later = await append(store, 10, "c")
    assert await eventually(lambda: forwarded(js, later))
    found = set(ids(await messages(js)))
    assert not found & {event["_id"] for event in missed}, "those are behind the markers"
    assert len(markers(await messages(js))) == 2 * settings.partitions
    await cancelled(task)
    await js.close()
    await store.close()
