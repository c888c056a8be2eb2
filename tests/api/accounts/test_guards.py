"""The guards in MongoDB are taken away under a running bank: nothing that relies on them is stored.

Two replicas run throughout: what one finds out does not reach the other.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymongo import IndexModel
from pymongo.collection import Collection

from api.accounts.app import create_app
from pipeline.eventstore import EventStore
from pipeline.eventstore.guards import FRESH
from pipeline.forwarder import service as forwarder
from pipeline.forwarder.stream_publisher import PublisherCounters
from pipeline.operations.checker.guards import store_guards
from pipeline.support.settings import Settings
from tests.commands import Replicas, create, deposit, opened, replicas, send, transfer, withdraw
from tests.harness import eventually, some_of
from tests.services import Client, is_ready, serving

Events = Collection[dict[str, Any]]

VERSIONS, KEYS = "account_version", "idempotency_key_sparse"
ORDER = [("slot", 1), ("account_id", 1), ("version", 1)]
KEY = [("idempotency_key", 1)]


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Replicas]:
    async with replicas(settings) as both:
        yield both


async def lacks(client: Client) -> str:
    """What `/readyz` says of the guards; "" if it says nothing of them."""
    async with client.get("/readyz") as answer:
        document = await answer.json(content_type=None)
    return str(document["detail"]) if document.get("missing") == ["guards"] else ""


async def ready(bank: Replicas) -> None:
    for client in (bank.bank, bank.other):
        await eventually(lambda client=client: is_ready(client))  # type: ignore[misc]


def guarded(events: Events) -> bool:
    """Whether an index of each key guards it: where two replicas build one at once, the one that
    stays may have a number behind its name."""
    there = events.index_information().values()
    weak = {"hidden", "expireAfterSeconds", "partialFilterExpression", "collation"}
    sound = [each["key"] for each in there if each.get("unique") and not weak & each.keys()]
    return ORDER in sound and KEY in sound


@asynccontextmanager
async def not_mended(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Nobody builds an index while the block runs, so that what is refused can be seen at rest."""

    async def nothing(*_: object, **__: object) -> None:
        return None

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.eventstore.index_builder.IndexBuilder.ensure", nothing)
        yield


async def test_a_dropped_index_of_keys_stops_the_commands_until_it_is_there(
    bank: Replicas, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, other = await opened(bank.bank, 100), await opened(bank.other)
    assert (await send(bank.bank, deposit(account, 10), key="k")).status == 200
    async with not_mended(monkeypatch):
        await asyncio.to_thread(events.drop_index, KEYS)
        await asyncio.sleep(2 * FRESH)
        for number in range(4):
            for command in (deposit(account, 10), transfer(account, other), create()):
                answer = await send(bank[number], command, key="k")
                assert (answer.status, answer.problem) == (503, "store-unguarded"), answer
                assert KEYS in answer.document["detail"]
        for client in (bank.bank, bank.other):
            assert f"the index {KEYS} is missing" in await lacks(client)
        assert (await bank.read(account))["balance"] == 110  # reads go on
    await ready(bank)
    again = [await send(bank[n], deposit(account, 10), key="k") for n in range(3)]
    assert [(each.status, each.replayed) for each in again] == [(200, True)] * 3
    assert (await bank.read(account))["balance"] == 110


async def test_a_dropped_index_of_versions_pays_no_balance_out_twice(
    bank: Replicas, events: Events
) -> None:
    account = await opened(bank.bank, 100)
    await send(bank.other, deposit(account, 1))  # both remember the account now
    await send(bank.bank, withdraw(account, 1))
    await asyncio.to_thread(events.drop_index, VERSIONS)
    await asyncio.sleep(2 * FRESH)
    answers = await asyncio.gather(*(send(bank[n], withdraw(account, 100)) for n in range(4)))
    assert sum(each.status == 200 for each in answers) <= 1  # one, if the index was back so soon
    await ready(bank)
    assert await asyncio.to_thread(guarded, events)
    await send(bank.bank, withdraw(account, 100))
    assert (await bank.read(account))["balance"] == 0


def remade(key: list[tuple[str, int]], name: str, **options: Any) -> Callable[[Events], None]:
    """Drops the guards of that key and makes an index in their place that guards nothing."""

    def change(events: Events) -> None:
        for there, index in events.index_information().items():
            if index["key"] == key or there == name:
                events.drop_index(there)
        events.create_indexes([IndexModel(key, name=name, **options)])

    return change


WRONG: dict[str, tuple[Callable[[Events], None], str]] = {
    "not unique": (remade(ORDER, VERSIONS), "unique: False"),
    "hidden": (remade(ORDER, VERSIONS, unique=True, hidden=True), "hidden: True"),
    "another key": (remade([("slot", 1), ("version", 1)], VERSIONS), "key: "),
    "another order": (remade([*reversed(ORDER)], VERSIONS, unique=True), "key: "),
    "descending": (remade([*ORDER[:2], ("version", -1)], VERSIONS, unique=True), "key: "),
    "partial": (
        remade(ORDER, VERSIONS, unique=True, partialFilterExpression={"slot": {"$gt": 5}}),
        "partialFilterExpression",
    ),
    "sparse": (remade(ORDER, VERSIONS, unique=True, sparse=True), "sparse: True"),
    "by another name": (remade(ORDER, "mine"), f"the index {VERSIONS} is missing"),
    "keys not unique": (remade(KEY, KEYS, sparse=True), "unique: False"),
    "keys hidden": (remade(KEY, "mine", unique=True, sparse=True, hidden=True), "hidden: True"),
    "keys of some": (
        remade(KEY, "idempotency_key", unique=True, partialFilterExpression={"slot": {"$gt": 5}}),
        "partialFilterExpression",
    ),
    "keys by a language": (
        remade(KEY, KEYS, unique=True, sparse=True, collation={"locale": "en", "strength": 2}),
        "collation",
    ),
    "keys expire": (
        remade(KEY, KEYS, unique=True, sparse=True, expireAfterSeconds=0),
        "expireAfterSeconds: 0",
    ),
    "keys under another field": (remade([("request", 1)], KEYS, sparse=True), "key: "),
}


@pytest.mark.parametrize("case", some_of(WRONG, "hidden", "another key", "keys of some"))
async def test_an_index_that_guards_nothing_is_not_trusted_and_is_replaced(
    bank: Replicas, events: Events, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    change, why = WRONG[case]
    account = await opened(bank.bank, 100)
    async with not_mended(monkeypatch):
        await asyncio.to_thread(change, events)
        await asyncio.sleep(2 * FRESH)
        for number in range(2):
            answer = await send(bank[number], deposit(account))
            assert (answer.status, answer.problem) == (503, "store-unguarded"), answer
            assert why in await lacks(bank[number])
    await ready(bank)
    assert (await send(bank.bank, deposit(account), key="k")).status == 200
    assert (await send(bank.other, deposit(account), key="k")).replayed
    assert await asyncio.to_thread(guarded, events)


async def test_the_right_index_is_trusted_by_whatever_name(bank: Replicas, events: Events) -> None:
    account = await opened(bank.bank, 100)

    def rename() -> None:
        events.drop_index(VERSIONS)
        events.create_index(ORDER, name="mine", unique=True)
        events.drop_index(KEYS)
        events.create_index(KEY, name="yours", unique=True, sparse=True)

    await asyncio.to_thread(rename)
    await ready(bank)
    assert (await send(bank.bank, deposit(account), key="k")).status == 200
    assert await asyncio.to_thread(guarded, events)


async def test_what_makes_events_expire_stops_the_commands(bank: Replicas, events: Events) -> None:
    account = await opened(bank.bank, 100)
    await asyncio.to_thread(
        lambda: events.create_index("created_at", name="old", expireAfterSeconds=10**9)
    )
    await asyncio.sleep(2 * FRESH)
    answer = await send(bank.bank, deposit(account))
    assert (answer.status, answer.problem) == (503, "store-unguarded")
    assert "the index old makes events expire" in await lacks(bank.other)
    await asyncio.to_thread(events.drop_index, "old")
    await ready(bank)
    assert (await send(bank.bank, deposit(account))).status == 200


@pytest.mark.parametrize("database", [False, True])
async def test_a_dropped_collection_leaves_no_remembered_state(
    bank: Replicas, events: Events, database: bool
) -> None:
    """An account that is in no event any more takes no money, whichever replica remembers it."""
    account = await opened(bank.bank, 100)
    await send(bank.other, deposit(account, 1))
    await send(bank.bank, deposit(account, 1))
    db = events.database
    await asyncio.to_thread(lambda: db.client.drop_database(db.name) if database else events.drop())
    await bank.store.setup()  # before either replica has looked: only the collection is another one
    await asyncio.sleep(FRESH)  # for so long the last look counts
    for number in range(2):
        answer = await send(bank[number], deposit(account, 5))
        assert answer.problem in ("store-unguarded", "account-not-found"), answer
    await ready(bank)
    for number in range(2):
        assert (await send(bank[number], deposit(account, 5))).problem == "account-not-found"
    assert await asyncio.to_thread(events.count_documents, {}) == 0
    assert await asyncio.to_thread(guarded, events)


async def double(events: Events, account: str, *, key: str | None = None) -> Any:
    """Without the guards, store an account's last event once more under another id."""

    def write() -> Any:
        last = events.find({"account_id": account}).sort("version", -1).limit(1)[0]
        last["_id"] = f"{last['_id'][:-1]}{'0' if last['_id'][-1] != '0' else '1'}"
        if key is not None:
            last["version"] += 1
            last["idempotency_key"] = key
        events.insert_one(last)
        return last["_id"]

    return await asyncio.to_thread(write)


@pytest.mark.parametrize("keyed", [False, True])
async def test_duplicates_are_counted_for_all_and_named_for_the_operator(
    bank: Replicas,
    events: Events,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    keyed: bool,
) -> None:
    account = await opened(bank.bank, 100)
    await send(bank.bank, deposit(account), key="paid")
    await send(bank.other, deposit(account))
    async with not_mended(monkeypatch):
        await asyncio.to_thread(events.drop_index, KEYS if keyed else VERSIONS)
        extra = await double(events, account, key="paid" if keyed else None)
    what = "idempotency_key 'paid' is in 2 events" if keyed else f"version 3 of account '{account}'"
    shared = "an idempotency key" if keyed else "a version of an account"

    async def counted(client: Client) -> bool:
        said = await lacks(client)
        assert not [each for each in (account, extra, "paid") if each in said], said
        return f"2 events share {shared}; the log and `bank verify` name them" in said

    for client in (bank.bank, bank.other):
        await eventually(lambda client=client: counted(client))  # type: ignore[misc]
    named = [each for each in caplog.messages if what in each and extra in each]
    assert named
    verified = (await store_guards(bank.store)).examples
    assert any(what in each and extra in each for each in verified), verified
    # A start finds the same, stays up and says so.
    async with serving(create_app(settings), ready=False) as third:
        await eventually(lambda: counted(third))
        answer = await send(third, deposit(account))
        assert (answer.status, answer.problem) == (503, "store-unguarded")
        assert account not in answer.document["detail"]
        assert "paid" not in answer.document["detail"]
        await asyncio.to_thread(events.delete_one, {"_id": extra})
        await eventually(lambda: is_ready(third))
        assert (await send(third, deposit(account, 7))).status == 200
    await ready(bank)
    assert (await send(bank.bank, deposit(account), key="paid")).replayed
    assert (await bank.read(account))["balance"] == 109


async def test_the_leading_forwarder_builds_what_was_dropped_with_the_collection(
    settings: Settings, store: EventStore, events: Events
) -> None:
    """After lost history there may be no account service that looks."""
    counters = PublisherCounters()
    stop = asyncio.Event()
    running = asyncio.create_task(forwarder.run(settings, stop=stop, counters=counters))
    await eventually(lambda: counters.token, seconds=60)
    await asyncio.to_thread(events.drop)
    try:
        await eventually(lambda: asyncio.to_thread(guarded, events), seconds=60)
    finally:
        stop.set()
        await running
