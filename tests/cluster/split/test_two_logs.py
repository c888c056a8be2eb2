"""Order, markers, tokens and repartitions, where each of two logs has half of the slots."""

import asyncio
import random
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest

from pipeline.banking.events import CREATED, DEPOSITED, WITHDRAWN
from pipeline.coordination.partitioning import ensure_log, partitioning
from pipeline.coordination.repartition_requests import RepartitionRequest, RepartitionRequests
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore
from pipeline.messaging import MARKER, TOKEN_HEADER, JetStream, OutgoingMessage, StoredMessage
from pipeline.model.events import SLOTS, Event, new_event, partition_of, slot_of
from pipeline.model.ulids import new_ulid
from pipeline.support.settings import Settings
from tests.cluster.split.worker import Documents, Worker, complete, stored
from tests.conftest import placed
from tests.forwarder.test_forwarder import ids, in_store, markers, messages
from tests.harness import Role, eventually
from tests.names import STREAM, SUBJECT, TOKEN_SUBJECT, subject

pytestmark = pytest.mark.cluster

HALVES = (range(512), range(512, SLOTS))
PARTITIONS = 8


@dataclass
class Log:
    """The log of some slots, on a server of its own."""

    slots: range
    settings: Settings
    js: JetStream
    worker: Worker

    @property
    def command(self) -> tuple[str, ...]:
        bounds = str(self.slots.start), str(self.slots.stop)
        return ("python", "-m", "tests.cluster.split.ranged", *bounds)

    async def last(self) -> int:
        state = await self.js.state(STREAM)
        return state.last if state else 0

    async def grows(self) -> None:
        """Wait until something more is in it."""
        before = await self.last()

        async def grown() -> bool:
            return await self.last() > before

        await eventually(grown, seconds=180, message="the log grows")


Forwarder = Callable[..., Awaitable[Role]]


@pytest.fixture
async def forwarder() -> AsyncIterator[Forwarder]:
    """`await forwarder(log)` starts one that has begun; `url` of another Redis: another lease."""
    roles: list[Role] = []

    async def start(log: Log, url: str = "", *, leads: bool = True) -> Role:
        told = {"redis_url": url or log.settings.redis_url}
        roles.append(Role(log.settings.model_copy(update=told), *log.command))
        await roles[-1].start()
        if leads:
            await begun(roles[-1], log)
        return roles[-1]

    yield start
    await asyncio.gather(*(each.close() for each in roles))


async def begun(role: Role, log: Log) -> None:
    """Wait until it leads and has told the log where it began: what was stored before that comes
    from the store, and is in no log."""
    await eventually(lambda: times(role, "Leading from"), seconds=180)
    await eventually(log.last, seconds=180, message="the log has begun")


def times(role: Role, words: str) -> int:
    return role.log().count(words)


@pytest.fixture
def documents() -> Documents:
    return Documents()


@asynccontextmanager
async def two(
    settings: Settings, store: EventStore, documents: Documents, folder: Path
) -> AsyncIterator[list[Log]]:
    """Both logs and their workers, without forwarders; each server has data of its own."""
    async with AsyncExitStack() as stack:
        logs = []
        for slots in HALVES:
            own = EmbeddedServers(placed(folder / f"log-{slots.start}"), ["nats"])
            await own.start()
            stack.push_async_callback(own.stop)
            js = await JetStream.connect(own.settings.nats_url, "test")
            stack.push_async_callback(js.close)
            worker = Worker(js, store, slots, documents)
            there = settings.model_copy(update={"nats_url": own.settings.nats_url})
            logs.append(Log(slots, there, js, worker))
        yield logs


@pytest.fixture
async def logs(
    settings: Settings, store: EventStore, documents: Documents, scratch: Path
) -> AsyncIterator[list[Log]]:
    """Both logs, with workers at work."""
    async with two(settings, store, documents, scratch) as logs, AsyncExitStack() as stack:
        for each in logs:
            await stack.enter_async_context(each.worker.working())
        yield logs


def account_in(slots: range) -> str:
    return next(each for each in iter(new_ulid, "") if slot_of(each) in slots)


class Payments:
    """Deposits, and transfers between accounts of both halves, until the block is left."""

    def __init__(self, store: EventStore, halves: tuple[range, ...] = HALVES) -> None:
        self._store, self._halves = store, halves
        self._versions: dict[str, int] = defaultdict(int)
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False
        self.stored = self.transfers = 0

    async def __aenter__(self) -> "Payments":
        self._tasks = [asyncio.create_task(self._pay()) for _ in range(4)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True  # an append that is cancelled may yet be stored
        await asyncio.gather(*self._tasks)

    async def more(self, number: int) -> None:
        """Wait until so many more events are stored."""
        target = self.stored + number
        await eventually(lambda: self.stored >= target, seconds=180, message=f"{number} stored")

    async def _pay(self) -> None:
        """Open some accounts that nobody else pays from or to, then move money."""
        mine = [account_in(half) for half in self._halves for _ in range(3)]
        for each in mine:
            await self.append(self.next(each, CREATED, 10_000))
        while not self._over:
            payer, payee = random.sample(mine, 2)
            if random.random() < 0.5:
                await self.append(self.next(payee, DEPOSITED, 5))
            else:
                await self.transfer(payer, payee)
            await asyncio.sleep(0.01)

    async def transfer(self, payer: str, payee: str) -> None:
        paid = self.next(payer, WITHDRAWN, 3)
        await self.append(paid, self.next(payee, DEPOSITED, 3, paid["_id"]))
        self.transfers += 1

    async def append(self, *events: Event) -> None:
        await self._store.append(*events)
        self.stored += len(events)

    def next(self, account_id: str, kind: str, money: int, cause: str | None = None) -> Event:
        self._versions[account_id] += 1
        version = self._versions[account_id]
        return new_event(account_id, version, kind, {"money": money}, causation_id=cause)


# ------------------------------------------------------------------ what must hold


async def judged(log: Log, events: Mapping[str, Event], first: int = PARTITIONS) -> list[str]:
    """The ids of the log's events, each of which is there once, in order of its account since the
    last marker, on the subject of the number in force there, and of the log's slots."""
    found: list[str] = []
    count, known = first, dict[str, int]()
    for message in await messages(log.js):
        if message.subject == SUBJECT:
            body = orjson.loads(message.data)
            assert (body["before"], body["at"]) == (count, message.sequence)
            count = body["count"]
        elif message.data == MARKER:
            marked = int(message.subject.rpartition(".")[2])
            known = {a: v for a, v in known.items() if partition_of(slot_of(a), count) != marked}
        elif message.data:
            event = events[orjson.loads(message.data)["_id"]]
            account_id, slot, version = event["account_id"], event["slot"], event["version"]
            assert slot in log.slots
            assert message.subject == subject(partition_of(slot, count))
            assert known.get(account_id, version - 1) == version - 1, "out of order"
            known[account_id] = version
            found.append(event["_id"])
    assert len(found) == len(set(found)), "an event is in the log twice"
    return found


async def by_id(store: EventStore) -> dict[str, Event]:
    return {event["_id"]: event for event in await in_store(store)}


async def whole(store: EventStore, documents: Documents, logs: list[Log]) -> None:
    """Each event is in its log once and in order, and the documents are the fold of all."""
    assert await eventually(lambda: complete(store, documents), seconds=180, every=0.2)
    assert not documents.gaps
    events = await by_id(store)
    found = [each for log in logs for each in await judged(log, events)]
    assert sorted(found) == sorted(events)


async def marked(log: Log) -> int:
    return len(markers(await messages(log.js)))


async def answered(log: Log) -> RepartitionRequest:
    """The log's request, once it is done."""

    async def check() -> RepartitionRequest | None:
        request = await RepartitionRequests(log.js).last()
        assert request is None or request.state != "refused", request
        return request if request and request.state == "done" else None

    request = await eventually(check, seconds=180, message="repartitioned")
    assert request is not None
    return request


async def count(log: Log) -> int:
    now = await partitioning(log.js)
    assert now is not None
    return now.count


# ------------------------------------------------------------------ the drills


async def test_each_log_has_the_events_of_its_slots_once_and_in_order(
    store: EventStore, documents: Documents, logs: list[Log], forwarder: Forwarder
) -> None:
    for each in logs:
        await forwarder(each)
    async with Payments(store) as payments:
        await payments.more(400)
    await whole(store, documents, logs)
    assert [await marked(each) for each in logs] == [PARTITIONS, PARTITIONS]
    events = await by_id(store)
    received = [event for event in events.values() if "causation_id" in event]
    legs = [(event["slot"], events[event["causation_id"]]["slot"]) for event in received]
    apart = [pair for pair in legs if (pair[0] in HALVES[0]) != (pair[1] in HALVES[0])]
    assert 0 < len(apart) < len(legs) == payments.transfers


async def test_faults_of_one_forwarder_stay_in_its_log(
    store: EventStore, documents: Documents, logs: list[Log], forwarder: Forwarder
) -> None:
    one, other = logs
    untouched = await forwarder(other)
    leader = await forwarder(one)
    async with Payments(store) as payments:
        for _ in range(2):
            await payments.more(60)
            await leader.kill()
            await other.grows()
            await leader.start()
            await one.grows()

        # A second one that has a lease, too: the log alone decides.
        second = await forwarder(one, one.settings.redis_url + "/1")
        await eventually(
            lambda: times(leader, "was rejected") + times(second, "was rejected") > 1, seconds=60
        )
        await second.stop()
        await one.grows()

        # A stale one: it sleeps, a standby leads, it wakes up.
        begun = times(leader, "Leading from")
        standby = await forwarder(one, leads=False)
        await leader.kill(signal.SIGSTOP)
        await other.grows()
        await eventually(lambda: times(standby, "Leading from"), seconds=180)
        await one.grows()
        rejected = times(leader, "was rejected")
        await leader.kill(signal.SIGCONT)
        await eventually(lambda: times(leader, "was rejected") > rejected, seconds=180)
        await payments.more(60)
    await whole(store, documents, logs)
    assert begun >= 3
    assert times(untouched, "Leading from") == 1
    assert not times(untouched, "was rejected")
    assert [await marked(each) for each in logs] == [PARTITIONS, PARTITIONS]


@pytest.mark.parametrize("lost", ["DELETE", "PURGE"])
async def test_a_lost_log_asks_its_own_partitions_alone_to_backfill(
    store: EventStore, documents: Documents, logs: list[Log], forwarder: Forwarder, lost: str
) -> None:
    one, other = logs
    for each in logs:
        await forwarder(each)
    async with Payments(store) as payments:
        await payments.more(100)
        await eventually(lambda: one.worker.backfills == PARTITIONS)
        gone = set(ids(await messages(one.js)))
        await one.js.api(f"STREAM.{lost}.{STREAM}")
        await eventually(lambda: one.worker.backfills == 2 * PARTITIONS, seconds=180)
        await payments.more(100)
    assert await eventually(lambda: complete(store, documents), seconds=180, every=0.2)
    events = await by_id(store)
    assert gone
    assert not gone & set(await judged(one, events)), "it is another log, or what is left of one"
    assert [await marked(each) for each in logs] == [PARTITIONS, PARTITIONS]
    assert other.worker.backfills == PARTITIONS
    # What came between a purge and the markers may follow something that nobody has read.
    assert all(slot_of(each) in one.slots for each in documents.gaps)
    assert lost == "PURGE" or not documents.gaps
    theirs = {each for each, event in events.items() if event["slot"] in other.slots}
    assert set(await judged(other, events)) == theirs


async def test_each_log_has_its_own_number_of_partitions(
    store: EventStore, documents: Documents, logs: list[Log], forwarder: Forwarder
) -> None:
    one, other = logs
    leader = await forwarder(one)
    await forwarder(other)
    async with Payments(store) as payments:
        await payments.more(100)
        await RepartitionRequests(one.js).ask(16, 30)
        await answered(one)
        assert (await count(one), await count(other)) == (16, PARTITIONS)
        await payments.more(100)
        # Both at once, and the forwarder of one dies before or after its switch.
        for each in logs:
            await RepartitionRequests(each.js).ask(5, 30)
        await leader.kill()
        await leader.start()
        for each in logs:
            await answered(each)
        assert (await count(one), await count(other)) == (5, 5)
        await payments.more(100)
    await whole(store, documents, logs)
    assert [await marked(each) for each in logs] == [PARTITIONS, PARTITIONS]


async def test_a_token_that_is_too_old_for_one_log_is_not_for_the_other(
    settings: Settings, documents: Documents, scratch: Path, forwarder: Forwarder
) -> None:
    async with AsyncExitStack() as stack:
        own = await with_oplog(scratch / "store", 200)
        stack.push_async_callback(own.stop)
        there = settings.model_copy(update={"mongodb_url": own.settings.mongodb_url})
        store = EventStore(there.mongodb_url, there.mongodb_database)
        stack.push_async_callback(store.close)
        await store.setup()
        logs = await stack.enter_async_context(two(there, store, documents, scratch))
        for each in logs:
            await stack.enter_async_context(each.worker.working())
        one, other = logs
        away = await forwarder(one)
        await forwarder(other)
        payments = Payments(store)
        await opened(payments, documents, logs)
        await away.kill()
        for _ in range(60):
            await opened(payments, documents, [other], 50)  # at its own pace, so that it can follow
        await away.start()
        await eventually(lambda: one.worker.backfills == 2 * PARTITIONS, seconds=180)
        await opened(payments, documents, logs)
        assert await eventually(lambda: complete(store, documents), seconds=180, every=0.2)
        assert not documents.gaps
        assert times(away, "The change stream can't be resumed") == 1
        assert [await marked(each) for each in logs] == [2 * PARTITIONS, PARTITIONS]
        await judged(one, await by_id(store))


async def with_oplog(folder: Path, entries: int) -> EmbeddedServers:
    """A MongoDB that keeps so many changes."""
    own = EmbeddedServers(placed(folder), ["mongodb"])
    await own.start()
    server = own.servers["mongodb"]
    await server.kill()
    more = ["--oplog-max-entries", str(entries)]
    command = server._binary.command
    server._binary = replace(server._binary, command=lambda *where: [*command(*where), *more])
    await server.start()
    return own


async def opened(
    payments: Payments, documents: Documents, logs: list[Log], number: int = 10
) -> None:
    """So many accounts of each log's slots are opened, and projected."""
    new = [account_in(log.slots) for log in logs for _ in range(number)]
    await asyncio.gather(*(payments.append(payments.next(each, CREATED, 1)) for each in new))
    await eventually(lambda: documents.accounts.keys() >= set(new), seconds=180)


async def test_the_token_of_a_quiet_log_is_renewed_by_the_events_of_the_other(
    settings: Settings, store: EventStore, documents: Documents, scratch: Path, forwarder: Forwarder
) -> None:
    often = settings.model_copy(update={"token_seconds": 0.5})
    async with two(often, store, documents, scratch) as logs:
        busy, quiet = logs
        await forwarder(busy)
        idle = await forwarder(quiet)

        async def token() -> str | None:
            last = await quiet.js.last_message(STREAM, TOKEN_SUBJECT)
            return last.headers[TOKEN_HEADER] if last else None

        async with Payments(store, (busy.slots,)) as payments:
            first = await eventually(token)
            await eventually(lambda: differs(token, first))
            await payments.more(50)
            await idle.kill()
            await payments.more(50)
            await idle.start()
            await eventually(lambda: times(idle, "Leading from") == 2)
            await payments.more(50)
            renewed = await token()
            await eventually(lambda: differs(token, renewed))
        assert await marked(quiet) == PARTITIONS
        assert await judged(quiet, await by_id(store)) == []


async def differs(token: Callable[[], Awaitable[str | None]], before: str | None) -> bool:
    return await token() != before


async def test_the_legs_of_a_transfer_come_in_either_order_and_both_come(
    store: EventStore, documents: Documents, logs: list[Log], forwarder: Forwarder
) -> None:
    """Between logs there is no order. In one log there is none either between two partitions, but
    there the legs are in one batch."""
    one, other = logs
    sleeper = await forwarder(one)
    await forwarder(other)
    payments = Payments(store)
    mine, theirs = account_in(one.slots), account_in(other.slots)
    for each in (mine, theirs):
        await payments.append(payments.next(each, CREATED, 100))
    await eventually(lambda: documents.accounts == {mine: (1, 100), theirs: (1, 100)})
    await sleeper.kill(signal.SIGSTOP)
    await payments.transfer(mine, theirs)
    await eventually(lambda: documents.accounts[theirs] == (2, 103))
    assert documents.accounts[mine] == (1, 100), "received, not yet paid"
    await payments.transfer(theirs, mine)
    await payments.transfer(theirs, mine)
    await eventually(lambda: documents.accounts[theirs] == (4, 97))
    assert documents.accounts[mine] == (1, 100), "paid, not yet received"
    await sleeper.kill(signal.SIGCONT)
    await eventually(lambda: documents.accounts == {mine: (4, 103), theirs: (4, 97)}, seconds=180)
    await whole(store, documents, logs)


async def test_one_log_is_split_without_a_backfill(
    settings: Settings,
    store: EventStore,
    js: JetStream,
    documents: Documents,
    scratch: Path,
    forwarder: Forwarder,
) -> None:
    """The new logs begin with the token at which the old one ended, once that is drained."""
    old = Log(range(SLOTS), settings, js, Worker(js, store, range(SLOTS), documents))
    payments = Payments(store)
    async with two(settings, store, documents, scratch) as logs:
        async with old.worker.working(), Role(settings, "bank", "forwarder") as before:
            await begun(before, old)
            await payments.__aenter__()
            await payments.more(100)
            assert await before.stop() == 0
            last = await js.last_message(STREAM)
            assert last is not None
            drained = set(await judged(old, await by_id(store)))
            await eventually(lambda: folded(store, documents, drained))
        await payments.more(50)
        for each in logs:
            await begun_at(each, last)
            await forwarder(each)
        async with logs[0].worker.working(), logs[1].worker.working():
            await payments.more(100)
            await payments.__aexit__()
            await whole(store, documents, [old, *logs])
        assert [await marked(each) for each in (old, *logs)] == [PARTITIONS, 0, 0]


async def begun_at(log: Log, last: StoredMessage) -> None:
    """A log whose first message has the token of another log's last one."""
    await ensure_log(log.js, log.settings)
    token = {TOKEN_HEADER: last.headers[TOKEN_HEADER]}
    await log.js.publish_batch([OutgoingMessage(TOKEN_SUBJECT, b"", token)], 0)


async def folded(store: EventStore, documents: Documents, ids: set[str]) -> bool:
    """Whether these events are in the documents."""
    events = [event for event in await stored(store) if event["_id"] in ids]
    return all(
        documents.accounts.get(event["account_id"], (0, 0))[0] >= event["version"]
        for event in events
    )
