"""Another number of partitions, by the leading forwarder: its stop, its switch, and its deaths.

Workers are stood in for by what the forwarder sees of them, the consumers' ack floors.
"""

import asyncio
import itertools
import random
import re
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import orjson
import pytest
from faust.types import TP
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from pipeline.banking.events import CREATED, Body
from pipeline.bridge.durable import Durable
from pipeline.cli.failures import CommandFailed
from pipeline.cli.repartition import ask, follow
from pipeline.coordination.consumer_progress import last_sequences
from pipeline.coordination.partitioning import Partitioning, ensure_log, partitioning
from pipeline.coordination.repartition_requests import (
    RepartitionRequest,
    RepartitionRequests,
    UnderWay,
)
from pipeline.eventstore import EventStore
from pipeline.forwarder import repartitioner, service
from pipeline.forwarder.stream_publisher import PublisherCounters, StandDown, StreamPublisher
from pipeline.messaging import (
    TOKEN_HEADER,
    JetStream,
    JetStreamError,
    OutgoingMessage,
    StoredMessage,
    WrongLastSequence,
)
from pipeline.messaging.kv import Bucket, Overtaken
from pipeline.messaging.news import News
from pipeline.model.events import Event, new_event, partition_of, slot_of
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.settings import Settings
from tests.forwarder.test_forwarder import (
    append,
    forwarded,
    ids,
    in_store,
    markers,
    messages,
    running,
)
from tests.harness import Role, eventually
from tests.names import STREAM, SUBJECT, TOKEN_SUBJECT, subject

Start = Callable[..., Awaitable[Role]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"partitions": 4})


@pytest.fixture
def requests(js: JetStream) -> RepartitionRequests:
    return RepartitionRequests(js)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repartitioner, "SETTLED_SECONDS", 0.0)


@pytest.fixture
async def inside(
    settings: Settings, store: EventStore, js: JetStream, at_once: None
) -> AsyncIterator[PublisherCounters]:
    """A forwarder in this process, that has begun."""
    async with forwarding(settings, js) as counters:
        yield counters


@asynccontextmanager
async def forwarding(settings: Settings, js: JetStream) -> AsyncIterator[PublisherCounters]:
    counters, stop = PublisherCounters(), asyncio.Event()
    task = asyncio.create_task(service.run(settings, stop=stop, counters=counters))
    await running(js)
    yield counters
    stop.set()
    async with asyncio.timeout(20):
        await task


async def in_force(js: JetStream) -> Partitioning:
    now = await partitioning(js)
    assert now is not None
    return now


async def drain(js: JetStream, partitions: Sequence[int] | None = None) -> None:
    """What workers do: take their partitions, and acknowledge all that is there."""
    now = await in_force(js)
    last = await last_sequences(js, now)
    for partition in range(now.count) if partitions is None else partitions:
        durable = Durable(js, TP(STREAM, partition), STREAM, 2.0)
        await durable.ensure()
        await durable.reset(max(last[partition], now.at))


def opening(number: int, partition: int = 0) -> list[Event]:
    """So many accounts are opened, all in one of four partitions."""
    ids = (f"{each:026d}" for each in itertools.count(random.randrange(2**32)))
    mine = (each for each in ids if partition_of(slot_of(each), 4) == partition)
    body: Body = {"owner": "Ada", "money": 1}
    return [new_event(next(mine), 1, CREATED, body) for _ in range(number)]


@asynccontextmanager
async def almost(store: EventStore, js: JetStream) -> AsyncIterator[None]:
    """Partition 0 gets one event after the other, and its worker leaves out the last one."""

    async def beyond(last: int) -> int:
        end = (await last_sequences(js, Partitioning(4)))[0]
        return end if end > last else 0

    async def work() -> None:
        durable, last = Durable(js, TP(STREAM, 0), STREAM, 2.0), 0
        await durable.ensure()
        for event in opening(1000):
            await store.append(event)
            end = await eventually(lambda last=last: beyond(last), seconds=600)  # type: ignore[misc]
            await durable.reset(last)
            last = end

    await drain(js)
    task = asyncio.create_task(work())
    try:
        yield
    finally:
        await cancel_and_wait(task)


async def answered(requests: RepartitionRequests, state: str = "done") -> RepartitionRequest:
    async def check() -> RepartitionRequest | None:
        request = await requests.last()
        return request if request and request.state == state else None

    found = await eventually(check, message=state)
    assert found is not None
    return found


async def draining(requests: RepartitionRequests) -> RepartitionRequest:
    return await answered(requests, "draining")


async def once_and_in_order(store: EventStore, js: JetStream, first: int = 4) -> bool:
    """Each event once, on the subject of the number in force there; False: not yet all."""
    now, versions = Partitioning(first), defaultdict[str, int](int)
    stream = await messages(js)
    found = ids(stream)
    assert len(found) == len(set(found)), "an event is in the stream twice"
    for message in stream:
        body = orjson.loads(message.data) if message.data else {}
        if message.subject == SUBJECT:
            assert (body["before"], body["before_at"]) == (now.count, now.at)
            assert body["at"] == message.sequence
            now = Partitioning(body["count"], body["at"])
        elif "_id" in body:
            assert body["version"] == versions[body["account_id"]] + 1, "out of order"
            versions[body["account_id"]] += 1
            assert message.subject == subject(partition_of(body["slot"], now.count))
    return len(found) == len(await in_store(store))


async def test_one_message_of_the_log_is_the_switch(
    store: EventStore, js: JetStream, requests: RepartitionRequests, inside: PublisherCounters
) -> None:
    await append(store, 50, "a")
    await eventually(lambda: inside.forwarded == 50)
    await drain(js)
    last = await last_sequences(js, Partitioning(4))
    await requests.ask(8, 5)
    done = await answered(requests)
    now = await in_force(js)
    assert now == Partitioning(8, done.at or 0, 4, 0, last)
    assert (done.before, done.to, done.reason) == (4, 8, "")
    assert done.seconds is not None
    fence, said = (await messages(js))[-2:]
    assert (fence.subject, said.subject) == (TOKEN_SUBJECT, SUBJECT)
    assert said.sequence == fence.sequence + 1 == now.at
    assert fence.headers[TOKEN_HEADER] == said.headers[TOKEN_HEADER]
    later = await append(store, 50, "b")
    assert await eventually(lambda: forwarded(js, later))
    assert await once_and_in_order(store, js)
    assert len(markers(await messages(js))) == 4, "nobody was asked to backfill"
    assert inside.fenced == 0


async def test_there_and_back_the_metadata_and_the_consumers_follow(
    store: EventStore, js: JetStream, requests: RepartitionRequests, inside: PublisherCounters
) -> None:
    for number in (8, 2, 32, 1):
        await append(store, 20, f"{number}-")
        await eventually(lambda: once_and_in_order(store, js))
        await drain(js)
        await requests.ask(number, 10)
        await answered(requests)
        assert (await in_force(js)).count == number
        await eventually(lambda n=number: tidied(js, n))  # type: ignore[misc]
    await append(store, 20, "last")
    assert await eventually(lambda: once_and_in_order(store, js))


async def tidied(js: JetStream, number: int) -> bool:
    config = await js.config(STREAM) or {}
    names = (await js.api(f"CONSUMER.NAMES.{STREAM}"))["consumers"] or []
    numbers = [int(name.removeprefix("balance-")) for name in names if name.startswith("balance-")]
    said = config["metadata"]["partitions"] == str(number)
    return said and all(each < number for each in numbers)


async def test_while_workers_are_not_done_nothing_is_changed(
    store: EventStore, js: JetStream, requests: RepartitionRequests, inside: PublisherCounters
) -> None:
    before = await in_force(js)
    async with almost(store, js):
        await requests.ask(8, 1)
        await fenced(js)
        refused = await answered(requests, "refused")
    assert re.fullmatch(r"after 1 s partition 0 has \d+ events to apply", refused.reason)
    assert await in_force(js) == before
    later = await append(store, 20, "b")
    assert await eventually(lambda: forwarded(js, later))
    assert await once_and_in_order(store, js)
    await drain(js)
    await requests.ask(8, 5)
    await answered(requests)
    assert (await in_force(js)).count == 8


async def test_it_does_not_even_stop_for_workers_that_are_not_there(
    store: EventStore, js: JetStream, requests: RepartitionRequests, inside: PublisherCounters
) -> None:
    await drain(js, [0, 1, 2])
    await append(store, 60, "a")
    await eventually(lambda: inside.forwarded == 60)
    await drain(js, [0, 1, 2])
    for reason in ("is read by nobody", r"has \d+ events to apply"):
        await requests.ask(8, 1)
        refused = await answered(requests, "refused")
        assert re.fullmatch(f"after 1 s partition 3 {reason}", refused.reason)
        await Durable(js, TP(STREAM, 3), STREAM, 2.0).ensure()
    assert (await js.last_message(STREAM, TOKEN_SUBJECT)) is None, "it never stopped"


async def test_workers_that_are_far_behind_are_waited_for_before_it_stops(
    store: EventStore, js: JetStream, requests: RepartitionRequests, inside: PublisherCounters
) -> None:
    await drain(js)
    events = opening(60)
    for event in events:
        await store.append(event)
    assert await eventually(lambda: forwarded(js, events))
    sequences = [each.sequence for each in await messages(js) if each.subject == subject(0)]
    await requests.ask(8, 5)
    for sequence in sequences[:30]:  # at work, but for ever behind
        await Durable(js, TP(STREAM, 0), STREAM, 2.0).reset(sequence)
        await asyncio.sleep(0.05)
    meanwhile = await append(store, 1, "m")
    assert await eventually(lambda: forwarded(js, meanwhile))
    await fenced(js)
    await drain(js)
    done = await answered(requests)
    assert done.seconds is not None
    assert await once_and_in_order(store, js)


async def test_partitions_that_nobody_took_since_the_last_time_are_waited_for(
    js: JetStream, requests: RepartitionRequests, inside: PublisherCounters
) -> None:
    """There is nothing in them, but nothing is claimed of them either."""
    await drain(js)
    await requests.ask(8, 5)
    await answered(requests)
    await requests.ask(4, 0)
    refused = await answered(requests, "refused")
    assert refused.reason == "after 0 s partition 0 is read by nobody, and 7 more are behind"
    await drain(js)
    await requests.ask(4, 5)
    await answered(requests)


async def test_another_writer_meanwhile_and_the_switch_does_not_land(
    store: EventStore, js: JetStream, requests: RepartitionRequests, inside: PublisherCounters
) -> None:
    """As a leader that slept while it waited finds the log. Whoever leads next carries it out."""
    async with almost(store, js):
        await requests.ask(8, 60)
        await draining(requests)
        fence = await fenced(js)
    same = {TOKEN_HEADER: fence.headers[TOKEN_HEADER]}
    await js.publish_batch([OutgoingMessage(TOKEN_SUBJECT, b"", same)], fence.sequence)
    await drain(js)
    done = await answered(requests)
    assert inside.fenced == 1
    (said,) = [each for each in await messages(js) if each.subject == SUBJECT]
    assert done.at == said.sequence > fence.sequence + 2
    await append(store, 40, "c")
    assert await eventually(lambda: once_and_in_order(store, js))


async def fenced(js: JetStream) -> StoredMessage:
    """The message with which the forwarder stopped: the log's last."""

    async def check() -> StoredMessage | None:
        last = await js.last_message(STREAM)
        return last if last and last.subject == TOKEN_SUBJECT else None

    found = await eventually(check, message="the forwarder stands still")
    assert found is not None
    return found


@pytest.mark.parametrize("subject", [TOKEN_SUBJECT, SUBJECT])
async def test_a_message_at_the_same_place_with_the_same_token_is_not_taken_for_ones_own(
    settings: Settings, js: JetStream, subject: str
) -> None:
    """Two that lead both stop at one end of the log; the one that is rejected knows it."""
    await ensure_log(js, settings)
    await StreamPublisher(js, PublisherCounters()).publish(
        [OutgoingMessage(TOKEN_SUBJECT, b"")], "token"
    )
    one, two = StreamPublisher(js, PublisherCounters()), StreamPublisher(js, PublisherCounters())
    for each in (one, two):
        await each.begin()
    await one.publish([OutgoingMessage(subject, b"")], "token")
    with pytest.raises(StandDown):
        await two.publish([OutgoingMessage(TOKEN_SUBJECT, b"")], "token")


async def test_a_forwarder_killed_before_the_switch_leaves_it_to_the_next(
    store: EventStore, js: JetStream, requests: RepartitionRequests, role: Start
) -> None:
    first = await role("bank", "forwarder")
    await running(js)
    async with almost(store, js):
        await requests.ask(8, 60)
        await draining(requests)
        await fenced(js)
    await first.kill(signal.SIGKILL)
    second = await role("bank", "forwarder")
    await eventually(lambda: "Asked for 8 partitions" in second.log())
    assert (await in_force(js)).count == 4
    await drain(js)
    done = await answered(requests)
    assert done.seconds is not None
    assert "4 -> 8 partitions after sequence" in second.log()
    later = await append(store, 40, "b")
    assert await eventually(lambda: forwarded(js, later))
    assert await once_and_in_order(store, js)


async def test_a_forwarder_that_dies_after_the_switch_has_switched(
    store: EventStore,
    js: JetStream,
    requests: RepartitionRequests,
    inside: PublisherCounters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change = RepartitionRequests.change

    async def dying(
        self: RepartitionRequests, request: RepartitionRequest, **changes: object
    ) -> RepartitionRequest:
        if changes["state"] == "done":
            monkeypatch.undo()
            raise ConnectionError("dead")
        return await change(self, request, **changes)

    await drain(js)
    monkeypatch.setattr(RepartitionRequests, "change", dying)
    await requests.ask(8, 5)
    done = await answered(requests)
    assert (done.before, done.at, done.seconds) == (4, (await in_force(js)).at, None)
    await append(store, 40, "a")
    assert await eventually(lambda: once_and_in_order(store, js))


@pytest.mark.parametrize(
    ("error", "known"),
    [(TimeoutError("no answer"), False), (WrongLastSequence(10071, "sent twice"), True)],
)
async def test_an_answer_that_was_lost_is_found_in_the_log(
    store: EventStore,
    js: JetStream,
    requests: RepartitionRequests,
    inside: PublisherCounters,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    known: bool,
) -> None:
    publish = JetStream.publish_batch

    async def lossy(
        self: JetStream,
        messages: Sequence[OutgoingMessage],
        expected: int,
        batch: str | None = None,
    ) -> int:
        sequence = await publish(self, messages, expected, batch)
        if messages[0].subject == SUBJECT:
            monkeypatch.undo()
            raise error
        return sequence

    await drain(js)
    monkeypatch.setattr(JetStream, "publish_batch", lossy)
    await requests.ask(8, 5)
    done = await answered(requests)
    assert (done.seconds is not None) == known
    assert done.at == (await in_force(js)).at
    assert inside.fenced == 0
    await append(store, 40, "a")
    assert await eventually(lambda: once_and_in_order(store, js))


async def test_a_purged_stream_keeps_the_number(
    store: EventStore, js: JetStream, requests: RepartitionRequests, inside: PublisherCounters
) -> None:
    await drain(js)
    await requests.ask(8, 5)
    await answered(requests)
    now = await in_force(js)
    assert await eventually(lambda: tidied(js, 8))
    await js.api(f"STREAM.PURGE.{STREAM}")
    assert await in_force(js) == now, "the metadata tells"
    await eventually(lambda: inside.resyncs == 2)
    assert await in_force(js) == now
    said, *marks = await messages(js)
    assert said.subject == SUBJECT
    assert [each.subject for each in marks] == [subject(p) for p in range(8)]
    later = await append(store, 40, "a")
    assert await eventually(lambda: forwarded(js, later))


async def test_a_stream_purged_while_no_one_forwarded_keeps_the_number(
    settings: Settings,
    store: EventStore,
    js: JetStream,
    requests: RepartitionRequests,
    at_once: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next forwarder is told BANK_PARTITIONS=4, says so, and uses what is in force."""
    async with forwarding(settings, js):
        await drain(js)
        await requests.ask(8, 5)
        await answered(requests)
        assert await eventually(lambda: tidied(js, 8))
    await js.api(f"STREAM.PURGE.{STREAM}")
    async with forwarding(settings, js):
        assert await eventually(lambda: marked(js, 8))
        later = await append(store, 40, "a")
        assert await eventually(lambda: forwarded(js, later))
    assert "BANK_PARTITIONS is 4 but the bank has 8, which is used" in caplog.text


async def marked(js: JetStream, number: int) -> bool:
    return len(markers(await messages(js))) == number


async def test_a_request_that_nobody_can_read_is_no_request(
    js: JetStream, requests: RepartitionRequests, inside: PublisherCounters
) -> None:
    bucket = Bucket(js, "bank")
    await bucket.ensure()
    await bucket.put("repartition", {"to": "many", "state": "wanted"})
    await drain(js)
    assert await requests.last() is None
    await requests.ask(8, 5)
    await answered(requests)


async def test_one_request_at_a_time(js: JetStream, requests: RepartitionRequests) -> None:
    wanted = await requests.ask(8, 5)
    with pytest.raises(UnderWay, match="a repartition to 8 is under way since 20"):
        await requests.ask(6, 5)
    refused = await requests.change(wanted, state="refused", reason="so")
    with pytest.raises(Overtaken):
        await requests.change(wanted, state="done")
    assert await requests.last() == refused
    assert await requests.again(wanted) == refused
    assert (await requests.ask(6, 5)).to == 6
    with pytest.raises(Overtaken):
        await requests.again(wanted)


async def test_a_request_that_no_forwarder_takes_up_is_withdrawn(
    js: JetStream, requests: RepartitionRequests
) -> None:
    request = await requests.ask(8, 5)
    given_up = await follow(requests, request, deadline=0.0)
    assert given_up.state == "withdrawn"
    assert await requests.last() == given_up


async def test_what_the_command_tells(
    settings: Settings, js: JetStream, inside: PublisherCounters
) -> None:
    assert await ask(settings, None, 5) == "4 partitions"
    assert await ask(settings, 4, 5) == "there are 4 partitions already"
    with pytest.raises(
        CommandFailed, match="partition 0 is read by nobody, and 3 more are behind; nothing"
    ):
        await ask(settings, 8, 0)
    await drain(js)
    told = await ask(settings, 8, 5)
    pattern = r"4 -> 8 partitions; the forwarder stood still for \d+\.\d\d s"
    assert re.fullmatch(pattern, told)
    assert await ask(settings, None, 5) == "8 partitions"


async def test_a_command_that_is_interrupted_withdraws_what_it_asked(
    settings: Settings, js: JetStream, requests: RepartitionRequests, role: Start
) -> None:
    with pytest.raises(CommandFailed, match="there are no partitions yet"):
        await ask(settings, 8, 5)
    await ensure_log(js, settings)
    waiting = await role("bank", "repartition", "8")
    await answered(requests, "wanted")
    with pytest.raises(CommandFailed, match="a repartition to 8 is under way"):
        await ask(settings, 6, 5)
    await waiting.kill(signal.SIGINT)
    assert await waiting.wait() == 1
    assert "interrupted" in waiting.log()
    await answered(requests, "withdrawn")


@pytest.mark.parametrize("by_news", [True, False])
async def test_a_request_is_read_when_there_is_news_of_it_or_after_a_while(
    js: JetStream,
    settings: Settings,
    requests: RepartitionRequests,
    monkeypatch: pytest.MonkeyPatch,
    by_news: bool,
) -> None:
    now, lost = await ensure_log(js, settings), asyncio.Event()
    publisher = StreamPublisher(js, PublisherCounters())
    await publisher.begin()
    monkeypatch.setattr(repartitioner, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(repartitioner, "SELDOM", 3600.0 if by_news else 0.1)
    if not by_news:
        monkeypatch.setattr(News, "note", _ignored)
    changes = repartitioner.Repartitioner(js, publisher, ["balance"])

    async def answered() -> bool:
        await changes.step(now, "", lost)
        last = await requests.last()
        return last is not None and last.state == "done"

    async with changes.following():
        for _ in range(3):
            assert not await answered()
        await requests.ask(now.count, 60)
        await eventually(answered)


async def _ignored(_: News, __: object) -> None:
    return None


async def test_events_wait_for_no_look_at_the_request(
    js: JetStream,
    settings: Settings,
    requests: RepartitionRequests,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its bucket has a leader of its own, which may be away; it is looked for again."""
    now, lost, back = await ensure_log(js, settings), asyncio.Event(), asyncio.Event()
    publisher, last = StreamPublisher(js, PublisherCounters()), RepartitionRequests.last
    await publisher.begin()
    monkeypatch.setattr(repartitioner, "CHECK_SECONDS", 0.0)
    errors = [NatsTimeout(), NoRespondersError(), JetStreamError(10008, "unavailable")]

    async def away(self: RepartitionRequests) -> RepartitionRequest | None:
        await back.wait()
        if errors:
            raise errors.pop()
        return await last(self)

    await requests.ask(now.count, 60)
    monkeypatch.setattr(RepartitionRequests, "last", away)
    changes = repartitioner.Repartitioner(js, publisher, ["balance"])

    async def answered() -> bool:
        await changes.step(now, "", lost)
        found = await last(requests)
        return found is not None and found.state == "done"

    async with changes.following(), asyncio.timeout(60):
        for _ in range(3):
            assert await changes.step(now, "", lost) is now
        back.set()
        await eventually(answered)
        assert not errors
