"""Forgetting in the write engine, on MongoDB and in memory: what is stored, read and decided."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import pymongo
import pytest
from bson import json_util
from pymongo.collection import Collection as Documents

from pipeline.banking.account import ACCOUNT, Account
from pipeline.banking.commands import Close, Create, Deposit, Freeze, UpdateOwner, Withdraw
from pipeline.banking.events import OWNER_FORGOTTEN
from pipeline.commands import (
    AggregateNotFound,
    AggregateUnreadable,
    CommandContext,
    CommandService,
    KeyReused,
    StoreUnavailable,
    Versioned,
)
from pipeline.commands.snapshots import EVERY, snapshot_of
from pipeline.eventstore import EventStore, VersionConflict
from pipeline.model.aggregate import FORGET
from pipeline.model.derived import as_stored
from pipeline.model.personal import FORGOTTEN, Subject
from pipeline.model.ulids import new_ulid
from pipeline.support.settings import Settings
from tests.commands.library import BOOK, Buy
from tests.harness import AnyStore, eventually, rounds

NAME, OTHER = "Ada Lovelace", "Grace Hopper"
CONTEXT = CommandContext("c")
SAID: Any = FORGET


@pytest.fixture
def store(any_store: AnyStore) -> AnyStore:
    return any_store


async def service_on(store: AnyStore, **options: Any) -> CommandService:
    service = CommandService(store, [ACCOUNT, BOOK], **options)
    await service.open()
    return service


@pytest.fixture
async def bank(store: AnyStore) -> CommandService:
    return await service_on(store)


async def opened(bank: CommandService, owner: str = NAME) -> str:
    return (await bank.create(ACCOUNT, Create(owner, 10), CONTEXT)).after.id


async def sent(bank: CommandService, account: str, *commands: Any) -> Versioned[Account]:
    for each in commands:
        done = await bank.execute(ACCOUNT, account, each, CONTEXT)
    return done.after


async def owners(store: AnyStore, account: str) -> Sequence[str]:
    """Of all its events, as readers have them."""
    events = await store.load(account)
    assert await store.page(account, after=0, limit=1000) == events
    return [event["body"]["owner"] for event in events if "owner" in event["body"]]


async def test_readers_have_the_name_and_the_store_has_not(
    bank: CommandService, store: AnyStore
) -> None:
    account = await opened(bank)
    after = await sent(bank, account, Deposit(1), UpdateOwner(OTHER))
    assert after.state == Account(OTHER, 11, "open")
    assert await owners(store, account) == [NAME, OTHER]
    other = await service_on(store, cached=0)
    assert await other.get(ACCOUNT, account) == after


async def test_forgotten_everywhere_and_the_money_moves(
    bank: CommandService, store: AnyStore
) -> None:
    account = await opened(bank)
    await sent(bank, account, UpdateOwner(OTHER), Deposit(1))
    other = await service_on(store)
    assert (await other.get(ACCOUNT, account)).state.owner == OTHER, "it remembers it"
    done = await bank.forget(ACCOUNT, account, CONTEXT)
    assert (done.version, done.said, done.deleted) == (4, True, True)
    assert (done.encrypted, done.clear) == (2, 0)
    assert await owners(store, account) == [FORGOTTEN, FORGOTTEN]
    for service in (bank, other, await service_on(store, cached=0)):
        assert (await service.get(ACCOUNT, account)).state == Account(FORGOTTEN, 11, "open")
        past = await service.histories(ACCOUNT).at_version(account, 3)
        assert past.state == Account(FORGOTTEN, 11, "open"), "what it had in memory is gone, too"
    after = await sent(other, account, Withdraw(11), Freeze())
    assert after.state == Account(FORGOTTEN, 0, "frozen")
    again = await bank.forget(ACCOUNT, account, CONTEXT)
    assert (again.version, again.said, again.deleted) == (4, False, False)


async def test_a_frozen_or_closed_account_can_be_forgotten(
    bank: CommandService, store: AnyStore
) -> None:
    for last in ([Freeze()], [Withdraw(10), Close()]):
        account = await opened(bank)
        before = await sent(bank, account, *last)
        assert (await bank.forget(ACCOUNT, account, CONTEXT)).said
        after = await bank.get(ACCOUNT, account)
        assert after.state == Account(FORGOTTEN, before.state.balance, before.state.status)
    with pytest.raises(AggregateNotFound):
        await bank.forget(ACCOUNT, new_ulid(), CONTEXT)
    with pytest.raises(ValueError, match="no personal fields"):
        await bank.forget(BOOK, account, CONTEXT)


async def test_another_owner_has_another_key(bank: CommandService, store: AnyStore) -> None:
    account = await opened(bank)
    other = await service_on(store)
    await sent(other, account, UpdateOwner(NAME))
    for number in range(2):
        await bank.forget(ACCOUNT, account, CONTEXT)
        # This one has the state of before, and its key.
        after = await sent(other, account, UpdateOwner(OTHER))
        assert after.state.owner == OTHER
        assert await owners(store, account) == [FORGOTTEN] * (2 + number) + [OTHER]
    assert (await bank.get(ACCOUNT, account)).state.owner == OTHER


async def test_killed_after_the_event_it_goes_on(bank: CommandService, store: AnyStore) -> None:
    account = await opened(bank)
    await bank.execute(ACCOUNT, account, SAID, CONTEXT)
    assert (await bank.get(ACCOUNT, account)).state.owner == FORGOTTEN
    done = await bank.forget(ACCOUNT, account, CONTEXT)
    assert (done.version, done.said, done.deleted) == (2, False, True)
    # A new owner meanwhile has another key, and takes none away.
    account = await opened(bank)
    await bank.execute(ACCOUNT, account, SAID, CONTEXT)
    assert (await sent(bank, account, UpdateOwner(OTHER))).state.owner == OTHER
    assert await owners(store, account) == [NAME, OTHER]
    assert len((await store.keys.find([account]))[account].keys) == 2
    assert await store.keys.forget(account, 2)
    assert await owners(store, account) == [FORGOTTEN, OTHER]


async def test_names_given_while_it_is_forgotten(bank: CommandService, store: AnyStore) -> None:
    """Each is there if it was given after it, and gone if before."""
    services = [bank, await service_on(store), await service_on(store, cached=0)]
    for _ in range(rounds(3, 30)):
        account = await opened(bank)
        renames = [(s, UpdateOwner(f"{NAME} {n}")) for n in range(5) for s in services]
        done, given = await asyncio.gather(
            services[1].forget(ACCOUNT, account, CONTEXT),
            asyncio.gather(*(sent(service, account, rename) for service, rename in renames)),
        )
        events = {event["version"]: event for event in await store.load(account)}
        assert events[done.version]["kind"] == OWNER_FORGOTTEN
        for after in given:
            late = after.version > done.version
            there = events[after.version]["body"]["owner"]
            assert there == (after.state.owner if late else FORGOTTEN)
        assert len(events) == len(renames) + 2


async def test_names_before_and_after_it_in_one_batch(
    bank: CommandService, store: AnyStore
) -> None:
    account = await opened(bank)
    async with asyncio.timeout(60):
        commands = (UpdateOwner(OTHER), SAID, UpdateOwner(OTHER))
        *_, last = await asyncio.gather(*(sent(bank, account, each) for each in commands))
    assert (last.version, last.forgotten) == (4, 3)
    assert await store.keys.forget(account, 3)
    assert await owners(store, account) == [FORGOTTEN, FORGOTTEN, OTHER]


async def test_a_repeated_command_of_a_forgotten_one_is_refused(
    bank: CommandService, store: AnyStore
) -> None:
    context = CommandContext("c", "k", "a digest")
    done = await bank.create(ACCOUNT, Create(NAME, 10), context)
    again = await (await service_on(store)).create(ACCOUNT, Create(NAME, 10), context)
    assert (again.replayed, again.after) == (True, done.after)
    await bank.forget(ACCOUNT, done.after.id, CONTEXT)
    with pytest.raises(KeyReused):  # what was asked is gone, so nobody can tell if it is the same
        await bank.create(ACCOUNT, Create(NAME, 10), context)


async def test_what_was_in_clear_stays(store: AnyStore) -> None:
    plain = await service_on(store, encrypt=False)
    account = await opened(plain)
    assert (await store.load(account))[0]["body"]["owner"] == NAME
    bank = await service_on(store)
    assert (await sent(bank, account, Deposit(1))).state.owner == NAME
    done = await bank.forget(ACCOUNT, account, CONTEXT)
    assert (done.said, done.deleted, done.encrypted, done.clear) == (True, False, 0, 1)
    assert (await bank.get(ACCOUNT, account)).state.owner == FORGOTTEN
    assert await owners(store, account) == [NAME]
    assert not (await bank.forget(ACCOUNT, account, CONTEXT)).said
    with pytest.raises(VersionConflict):  # no key of the time before
        await store.keys.obtain(account, 0)


async def test_a_command_with_personal_fields_is_decided_once(
    bank: CommandService, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, commands = ACCOUNT.decide, list[Any]()

    def counted(command: Any, state: Account) -> Any:
        commands.append(command)
        return decide(command, state)

    monkeypatch.setattr(ACCOUNT, "decide", counted)
    await sent(bank, await opened(bank), UpdateOwner(OTHER))
    assert commands == [Create(NAME, 10), UpdateOwner(OTHER)]


async def test_of_what_has_no_personal_fields_no_key_is_made(
    bank: CommandService, store: AnyStore
) -> None:
    book = (await bank.create(BOOK, Buy("Emma"), CONTEXT)).after.id
    assert await store.keys.find([book]) == {}


async def test_keys_that_are_wanted_at_the_same_time(store: AnyStore) -> None:
    subjects = [f"s{n}" for n in range(40)] * 5
    made = await asyncio.gather(*(store.keys.obtain(each, 0) for each in subjects))
    assert await asyncio.gather(*(store.keys.obtain(each, 0) for each in subjects)) == made
    found = await store.keys.find(subjects)
    assert [found[each].keys[0] for each in subjects] == [key for _, key in made]
    assert len({key for _, key in made}) == 40
    assert [await store.keys.forget(each, 3) for each in ("s1", "s1", "new")] == [
        True,
        False,
        False,
    ]
    newer = await asyncio.gather(*(store.keys.obtain("s1", 3) for _ in range(5)))
    assert len({*newer}) == 1
    assert newer[0] not in made
    assert not await store.keys.forget("s1", 3), "what came after it stays"
    assert (await store.keys.find(["s1"]))["s1"] == (3, {3: newer[0].key})


# ---------------------------------------------------------------- in MongoDB


@pytest.fixture
def keys(events: Documents[dict[str, Any]]) -> Documents[dict[str, Any]]:
    return events.database["subject_keys"]


def raw(settings: Settings) -> str:
    """All collections, as text."""
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False) as client:
        database = client[settings.mongodb_database]
        names = database.list_collection_names()
        return json_util.dumps([[*database[name].find()] for name in names])


async def test_no_collection_has_the_name(settings: Settings, mongodb_store: EventStore) -> None:
    """With the account's snapshot among them."""
    bank = await service_on(mongodb_store)
    account = await opened(bank)
    await asyncio.gather(*(sent(bank, account, Deposit(1)) for _ in range(EVERY + 20)))

    async def kept() -> bool:
        return await mongodb_store.snapshots.find(account) is not None

    await eventually(kept)
    assert NAME not in raw(settings)
    fresh = await service_on(mongodb_store)
    state = await fresh.get(ACCOUNT, account)
    assert state.state == Account(NAME, 10 + EVERY + 20, "open")
    snapshot = await mongodb_store.snapshots.find(account)
    assert snapshot is not None
    clear = snapshot_of(ACCOUNT, state)
    assert clear is not None
    await bank.forget(ACCOUNT, account, CONTEXT)
    assert await mongodb_store.snapshots.find(account) is None
    for late in (snapshot, clear):  # of a service that was late, and of one that encrypts nothing
        mongodb_store.snapshots.keep(late)
        await mongodb_store.snapshots.close()
        for service in (fresh, await service_on(mongodb_store)):
            past = await service.histories(ACCOUNT).at_version(account, state.version)
            assert past.state.owner == FORGOTTEN
            assert (await service.get(ACCOUNT, account)).state.owner == FORGOTTEN
    await mongodb_store.snapshots.close()
    assert NAME not in raw(settings), "the present state has replaced it"


async def test_what_is_loaded_at_the_same_time_is_read_together(
    mongodb_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, fresh = [await service_on(mongodb_store) for _ in range(2)]
    accounts = await asyncio.gather(*(opened(bank, f"{NAME} {n}") for n in range(20)))
    find, asked = mongodb_store.snapshots.find_many, list[Collection[str]]()

    async def counted(account_ids: Collection[str]) -> dict[str, Any]:
        asked.append(account_ids)
        return await find(account_ids)

    monkeypatch.setattr(mongodb_store.snapshots, "find_many", counted)
    found = await asyncio.gather(*(fresh.get(ACCOUNT, each) for each in accounts))
    assert [each.state.owner for each in found] == [f"{NAME} {n}" for n in range(20)]
    assert asked == [{*accounts}]


@pytest.mark.parametrize("damage", [{}, {"since": "x"}, {"since": 0, "keys": {"v0": b"short"}}])
async def test_a_document_that_somebody_has_damaged(
    mongodb_store: EventStore, keys: Documents[dict[str, Any]], damage: dict[str, Any]
) -> None:
    keys.insert_one({"_id": "odd", **damage})
    with pytest.raises(StoreUnavailable, match="can't be used"):
        await mongodb_store.keys.obtain("odd", 0)


async def test_a_key_that_was_made_since_the_others_were_read(mongodb_store: EventStore) -> None:
    """Or that a primary does not know which was deposed."""
    account = await opened(await service_on(mongodb_store))
    [event] = map(as_stored, await mongodb_store.load(account))
    for old in ({}, {account: Subject(0, {})}):
        [found] = await mongodb_store.keys.readable([event], old)
        assert found["body"]["owner"] == NAME


async def test_who_has_lost_the_key_can_be_forgotten(
    mongodb_store: EventStore, keys: Documents[dict[str, Any]]
) -> None:
    bank = await service_on(mongodb_store)
    account = await opened(bank)
    keys.delete_one({"_id": account})
    done = await (await service_on(mongodb_store)).forget(ACCOUNT, account, CONTEXT)
    assert (done.version, done.said, done.deleted) == (2, True, False)
    after = await sent(bank, account, Deposit(1), UpdateOwner(OTHER))
    assert after.state == Account(OTHER, 11, "open")
    assert await owners(mongodb_store, account) == [FORGOTTEN, OTHER]


async def test_a_key_that_was_lost_and_comes_back(
    mongodb_store: EventStore, keys: Documents[dict[str, Any]]
) -> None:
    account = await opened(await service_on(mongodb_store))
    lost = keys.find_one_and_delete({"_id": account})
    assert lost is not None
    bank = await service_on(mongodb_store)
    with pytest.raises(AggregateUnreadable, match="their key is lost"):
        await bank.get(ACCOUNT, account)
    keys.insert_one(lost)
    assert (await bank.get(ACCOUNT, account)).state.owner == NAME
