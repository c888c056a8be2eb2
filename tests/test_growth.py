"""The cost of a query does not depend on how many came before: each one is a look into an index,
or a range with an end. `docs/queries.md` lists them all, with the few that are meant as scans.

On the embedded servers, or on those that BANK_TEST_MONGODB_URL and …_ELASTICSEARCH_URL name.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from pymongo import monitoring
from ulid import ULID

from pipeline.banking.events import CREATED, DEPOSITED, WITHDRAWN
from pipeline.coordination.partitioning import ensure_log
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore, KeyTaken, place_of
from pipeline.eventstore.process_states import ProcessStates
from pipeline.eventstore.snapshots import Snapshots
from pipeline.eventstore.subject_keys import SubjectKeys
from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket, Mirror
from pipeline.model.events import new_event
from pipeline.model.personal import encrypted
from pipeline.operations.status.lag import unapplied
from tests.bank import publish
from tests.conftest import drop_database, given_url, placed
from tests.growth import EACH, LARGE, MOST, SMALL, WAKE, Ask, Bank, fill, public, ratios
from tests.names import STREAM, TOKEN_SUBJECT, subject
from tests.plans import explainable, indexed, sorts, stages

SCANS: Final = {
    "EventStore.count",
    "EventStore.replay",
    "EventStore.duplicates",
    "EventStore.invalid_documents",
    "Bucket.entries",
    "Bucket.read",
}
"""They look at all there is, and are meant to."""

STAND_IN: Final = {
    "EventStore.after",
    "EventStore.correlated",
    "EventStore.estimate",
    "ProcessStates.parked",
    "ProcessStates.count_parked",
}
"""Scans on the embedded MongoDB, which reads and sorts slots whole, has no ranges of `_id`, counts
what it is asked for, and reads all parked instances of an index whose first are asked for."""

EXPLAINED_AS_SCANS: Final = {
    "ProcessStates.keep_position",
    "ProcessStates.position",
    "ProcessStates.put",
    "ProcessStates.retry",
    "SubjectKeys.forget",
}
"""The embedded MongoDB explains a query that also has a field which is not in the index as a scan;
it uses the index, as the ratios show."""

NO_QUERIES: Final = {
    "EventStore.close",
    "JetStream.api",
    "JetStream.close",
    "JetStream.ensure_bucket",
    "JetStream.ensure_stream",
    "JetStream.note_full",
    "JetStream.ping",
    "JetStream.stream_info",
    "Bucket.ensure",
    "Bucket.news",
    "Snapshots.close",
    "SubjectKeys.close",
}


async def append(bank: Bank) -> None:
    """New events, one that is stored already, and one whose key is taken."""
    one, first, second, taken = (bank.new() for _ in range(4))
    await bank.store.append(one)
    await bank.store.append(one)
    await bank.store.append(first, second)
    taken["idempotency_key"] = bank.any["idempotency_key"]
    with pytest.raises(KeyTaken):
        await bank.store.append(taken)


async def append_row(bank: Bank) -> None:
    one = bank.new()
    assert (await bank.store.append_row([one])).number == 1
    assert (await bank.store.append_row([one])).number == 1


async def under_keys(bank: Bank) -> None:
    keys = [bank.any["idempotency_key"] for _ in range(20)]
    assert len(await bank.store.under_keys(keys)) == len(set(keys))
    assert not await bank.store.under_keys(["nobody's"])


async def load(bank: Bank) -> None:
    assert await bank.store.load(bank.any["account_id"])
    assert await bank.store.load(bank.any["account_id"], after=5)
    assert not await bank.store.load(bank.new()["account_id"])


async def load_many(bank: Bank) -> None:
    assert await bank.store.load_many([bank.any["account_id"] for _ in range(16)])


async def walk(bank: Bank) -> None:
    async with aclosing(bank.store.walk(bank.any["account_id"], after=2, to=8)) as lists:
        assert [len(each) async for each in lists] == [6]


async def page(bank: Bank) -> None:
    assert len(await bank.store.page(bank.any["account_id"], after=3, limit=4)) == 4
    assert len(await bank.store.page(bank.any["account_id"], after=8, limit=4)) == 2


async def head(bank: Bank) -> None:
    assert await bank.store.head(bank.any["account_id"]) == 10


async def of_kinds(bank: Bank) -> None:
    found = await bank.store.of_kinds(bank.any["account_id"], [DEPOSITED], after=4, limit=3)
    assert [each["version"] for each in found] == [5, 6, 7]


async def find_instance(bank: Bank) -> None:
    assert await bank.store.processes.find("growth", bank.any["account_id"])
    assert await bank.store.processes.find("growth", "nobody's") is None


async def put_instance(bank: Bank) -> None:
    instance = {"_id": f"growth/{bank.new()['account_id']}", "process": "growth"}
    assert await bank.store.processes.put({**instance, "revision": 1})
    assert await bank.store.processes.put({**instance, "revision": 2})
    assert not await bank.store.processes.put({**instance, "revision": 2})


async def waking(bank: Bank) -> None:
    until = WAKE + timedelta(seconds=9)
    assert len(await bank.store.processes.waking("growth", until, 20)) == 10
    assert await bank.store.processes.overdue("growth", until, 20) == 10


async def parked_instances(bank: Bank) -> None:
    assert len(await bank.store.processes.parked(["growth"], 3)) == 3
    assert await bank.store.processes.count_parked("growth", 3) == 3


async def retry_instance(bank: Bank) -> None:
    parked = bank.events[10 * EACH]["account_id"]
    assert await bank.store.processes.retry("growth", parked)
    assert not await bank.store.processes.retry("growth", "nobody's")


async def position(bank: Bank) -> None:
    assert await bank.store.processes.keep_position("other", None, slot=3)
    assert (await bank.store.processes.position("other"))["slot"] == 3


async def after(bank: Bank) -> None:
    found, place = await bank.store.after(place_of(bank.any), 100)
    assert len(found) == 100 or place is None


async def watch(bank: Bank) -> float:
    began = time.perf_counter()
    async with bank.store.watch(bank.token) as changes:
        await anext(changes)
        return time.perf_counter() - began  # to leave takes as long as the server waits


async def change_backlog(bank: Bank) -> None:
    assert (await bank.store.change_backlog(bank.token, most=1000, seconds=10)).complete


async def correlated(bank: Bank) -> None:
    event = bank.any
    since = ULID.from_str(event["_id"]).datetime - timedelta(milliseconds=1)
    until = since + timedelta(milliseconds=3)
    found = await bank.store.correlated(event["correlation_id"], since, until, seconds=60)
    assert found == [event]


async def find(bank: Bank) -> None:
    assert await bank.store.snapshots.find(bank.any["account_id"])
    assert await bank.store.snapshots.find("nobody's") is None


async def snapshot_and_keys(bank: Bank) -> None:
    snapshot, _ = await bank.store.snapshot_and_keys(bank.any["account_id"])
    assert snapshot is not None
    assert await bank.store.snapshot_and_keys("nobody's") == (None, None)


async def keep(bank: Bank) -> None:
    bank.store.snapshots.keep({"_id": bank.any["account_id"], "version": 2})
    await bank.store.snapshots.close()


async def keys_of(bank: Bank) -> None:
    """One that is there by now, and one that is not."""
    subject = bank.any["account_id"]
    assert (await bank.store.keys.obtain(subject, 0)).key is not None
    assert {*await bank.store.keys.find([subject, "nobody's"])} == {subject}


async def key_of(bank: Bank) -> None:
    assert await bank.store.keys.known(["nobody's"]) == {}


async def forget(bank: Bank) -> None:
    await bank.store.keys.obtain(subject := bank.new()["account_id"], 0)
    assert await bank.store.keys.forget(subject, 2)


async def readable(bank: Bank) -> None:
    subject = bank.any["account_id"]
    key = await bank.store.keys.obtain(subject, 0)
    event = new_event(subject, 1, CREATED, {"owner": "Ada", "money": 0})
    [found] = await bank.store.readable([encrypted(event, ["owner"], key)])
    assert found["body"] == event["body"]


async def publish_batch(bank: Bank) -> None:
    await publish(bank.js, [bank.new()])


async def publish_one(bank: Bank) -> None:
    last = await bank.js.last_message(STREAM, TOKEN_SUBJECT)
    await bank.js.publish(TOKEN_SUBJECT, b"", expected=last.sequence if last else 0)


async def last_message(bank: Bank) -> None:
    assert await bank.js.last_message(STREAM)
    assert await bank.js.last_message(STREAM, subject(1))
    assert await bank.js.last_message(STREAM, "balance.nothing") is None


async def refresh(bank: Bank) -> None:
    await bank.bucket.put(key := bank.any["account_id"], {"seen": str(uuid.uuid4())})
    assert key in await bank.mirror.refresh()


async def delete(bank: Bank) -> None:
    key = bank.new()["account_id"]
    await bank.bucket.put(key, {})
    await bank.bucket.delete(key)


@dataclass
class Record:
    """A value of the bucket, as its owners have them."""

    number: int
    revision: int = 0


async def write(bank: Bank) -> None:
    key = bank.new()["account_id"]
    await bank.bucket.write(key, await bank.bucket.write(key, Record(1)))


async def change(bank: Bank) -> None:
    key = bank.new()["account_id"]
    assert await bank.bucket.change(key, lambda _: None, lambda _: Record(2))


async def remove(bank: Bank) -> None:
    key = bank.new()["account_id"]
    await bank.bucket.put(key, {})
    assert await bank.bucket.remove(key)


EVENTS: Final[dict[str, Ask[Bank]]] = {
    "EventStore.watch": watch,
    "EventStore.change_backlog": change_backlog,
    "EventStore.setup": lambda bank: bank.store.setup(),
    "EventStore.ping": lambda bank: bank.store.ping(),
    "EventStore.estimate": lambda bank: bank.store.estimate(),
    "EventStore.correlated": correlated,
    "EventStore.append": append,
    "EventStore.append_row": append_row,
    "EventStore.under_keys": under_keys,
    "EventStore.load": load,
    "EventStore.load_many": load_many,
    "EventStore.walk": walk,
    "EventStore.page": page,
    "EventStore.head": head,
    "EventStore.of_kinds": of_kinds,
    "ProcessStates.setup": lambda bank: bank.store.processes.setup(),
    "ProcessStates.find": find_instance,
    "ProcessStates.put": put_instance,
    "ProcessStates.waking": waking,
    "ProcessStates.overdue": waking,
    "ProcessStates.parked": parked_instances,
    "ProcessStates.count_parked": parked_instances,
    "ProcessStates.retry": retry_instance,
    "ProcessStates.position": position,
    "ProcessStates.keep_position": position,
    "ProcessStates.now": lambda bank: bank.store.processes.now(),
    "EventStore.after": after,
    "EventStore.snapshot_and_keys": snapshot_and_keys,
    "Snapshots.find": find,
    "Snapshots.find_many": snapshot_and_keys,
    "Snapshots.keep": keep,
    "Snapshots.remove": lambda bank: bank.store.snapshots.remove(bank.new()["account_id"]),
    "SubjectKeys.find": keys_of,
    "SubjectKeys.known": key_of,
    "SubjectKeys.obtain": keys_of,
    "SubjectKeys.readable": readable,
    "SubjectKeys.forget": forget,
    "EventStore.readable": readable,
    "JetStream.publish_batch": publish_batch,
    "JetStream.publish": publish_one,
    "JetStream.last_message": last_message,
    "JetStream.message": lambda bank: bank.js.message(STREAM, 1),
    "JetStream.state": lambda bank: bank.js.state(STREAM),
    "JetStream.config": lambda bank: bank.js.config(STREAM),
    "JetStream.counted": lambda bank: bank.js.counted(STREAM, subject(1)),
    "Bucket.get": lambda bank: bank.bucket.get(bank.any["account_id"]),
    "Bucket.put": lambda bank: bank.bucket.put(bank.any["account_id"], {}),
    "Bucket.delete": delete,
    "Bucket.write": write,
    "Bucket.change": change,
    "Bucket.remove": remove,
    "Mirror.refresh": refresh,
    "unapplied": lambda bank: unapplied(bank.js, 1, 20),
}


@asynccontextmanager
async def bank_of(number: int, folder: Path) -> AsyncIterator[Bank]:
    """A bank of that many events on servers of its own, unless a MongoDB is given."""
    given = given_url("BANK_TEST_MONGODB_URL")
    settings = placed(folder, mongodb_database=f"test-{uuid.uuid4().hex}"[:38])
    servers = EmbeddedServers(settings, ["nats"] if given else ["nats", "mongodb"])
    await servers.start()
    url, database = given or settings.mongodb_url, settings.mongodb_database
    store, js = EventStore(url, database), await JetStream.connect(settings.nats_url, "test")
    try:
        await store.setup()
        await store.processes.setup()
        events = await asyncio.to_thread(fill, url, database, number)
        await ensure_log(js, settings)
        await publish(js, events, settings.partitions)
        async with store.watch(None) as changes:
            token = (await anext(changes)).token
        bucket = Bucket(js, "growth")
        await bucket.ensure()
        await asyncio.gather(*(bucket.put(each["account_id"], {}) for each in events[::EACH]))
        yield Bank(store, js, bucket, Mirror(bucket), events, token)
    finally:
        await js.close()
        await store.close()
        if given:
            await asyncio.to_thread(drop_database, given, database)
        await servers.stop()


@pytest.mark.timeout(600)
async def test_what_the_stores_are_asked_does_not_cost_more_in_a_large_bank(scratch: Path) -> None:
    async with AsyncExitStack() as stack:
        small, large = [
            await stack.enter_async_context(bank_of(number, scratch / str(number)))
            for number in (SMALL, LARGE)
        ]
        scanned = STAND_IN if await stand_in(large.store) else set()
        asks = {name: ask for name, ask in EVENTS.items() if name not in scanned}
        found = await ratios(asks, small, large)
    assert not {name: ratio for name, ratio in found.items() if ratio > MOST}


@dataclass(frozen=True, slots=True)
class Account:
    """An account of that many events."""

    store: EventStore
    id: str
    events: int

    async def turn(self) -> None:
        return None


async def test_what_is_new_of_an_account_does_not_cost_more_when_it_is_long(
    store: EventStore,
) -> None:
    """Whoever follows an account asks for what comes after what it knows."""

    async def of_kinds(account: Account) -> None:
        at, kinds = account.events - 5, [DEPOSITED, WITHDRAWN]
        found = await account.store.of_kinds(account.id, kinds, after=at, limit=500)
        assert [each["version"] for each in found] == [*range(at + 1, account.events + 1)]

    async def load(account: Account) -> None:
        assert len(await account.store.load(account.id, after=account.events - 5)) == 5

    short, long = [Account(store, str(ULID()), number) for number in (10, 2_000)]
    for each in (short, long):
        row = [new_event(each.id, n + 1, DEPOSITED, {"money": 1}) for n in range(each.events)]
        for at in range(0, len(row), 500):
            assert (await store.append_row(row[at : at + 500])).error is None
    found = await ratios({"of_kinds": of_kinds, "load": load}, short, long)
    assert not {name: ratio for name, ratio in found.items() if ratio > MOST}


async def stand_in(store: EventStore) -> bool:
    """Whether it is the embedded MongoDB, or its sister in Rust."""
    return "secantusVersion" in await store._client.admin.command("buildInfo")


def test_every_method_is_in_one_of_the_lists() -> None:
    """One that is new has to be measured, too, or to be named as what it is."""
    classes = EventStore, Snapshots, SubjectKeys, ProcessStates, JetStream, Bucket, Mirror
    asked = public(*classes)
    assert asked == (EVENTS.keys() | SCANS | NO_QUERIES) - {"unapplied"}
    assert EVENTS.keys() > STAND_IN


# ------------------------------------------------------------------ how MongoDB goes about them


class Heard(monitoring.CommandListener):
    """The commands that the driver sends."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.commands.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


async def replay(bank: Bank) -> None:
    """A scan, but in ranges of the index, in whose order it comes."""
    assert [len(each) async for each in bank.store.replay(range(64))]


async def count(bank: Bank) -> None:
    assert await bank.store.count(range(512))


async def test_mongodb_answers_by_an_index(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No scan of the collection, and on MongoDB itself no sorting in memory either."""
    heard = Heard()
    # A listener for the clients made from here on; `register` would be for good.
    listeners = monitoring._LISTENERS._replace(command_listeners=[heard])
    monkeypatch.setattr(monitoring, "_LISTENERS", listeners)
    wrong: dict[str, list[str]] = {}
    async with bank_of(SMALL, scratch) as bank:
        monkeypatch.undo()
        replaced = await stand_in(bank.store)
        asks = {**EVENTS, "EventStore.replay": replay, "EventStore.count": count}
        for name in asks.keys() - (STAND_IN | EXPLAINED_AS_SCANS if replaced else set()):
            heard.commands.clear()
            await asks[name](bank)
            for command in filter(None, map(explainable, [*heard.commands])):
                answer = await bank.store._client[bank.store._events.database.name].command(
                    {"explain": command, "verbosity": "queryPlanner"}
                )
                names = [*stages(answer)]
                if not indexed(names) or (sorts(names) and not replaced):
                    wrong[f"{name}: {command}"] = names
    assert not wrong
