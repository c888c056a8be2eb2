"""MongoDB refuses a write for good: told at once, in its own words, and nothing is stored.

A validator and a foreign unique index are the server's own refusals. What the embedded server can't
be brought to say, the test says in its place, where the driver's answer comes in.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, ConfigurationError, OperationFailure, PyMongoError

from pipeline.banking.commands import Deposit
from pipeline.banking.events import DEPOSITED, WITHDRAWN
from pipeline.commands import CommandContext
from pipeline.eventstore import EventStore, StoreRefused, StoreUnavailable, driver, guards
from pipeline.eventstore.write_results import refused_for_good
from pipeline.model.events import new_event
from pipeline.support.settings import Settings
from tests.accounts import account_service
from tests.commands import (
    Replicas,
    create,
    deposit,
    opened,
    rename,
    replicas,
    send,
    transfer,
    withdraw,
)

Events = Collection[dict[str, Any]]


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Replicas]:
    async with replicas(settings) as both:
        yield both


async def validate(events: Events, rule: dict[str, Any]) -> None:
    def change() -> None:
        events.database.command({"collMod": events.name, "validator": rule})

    await asyncio.to_thread(change)


async def test_a_validator_refuses_deposits_and_nothing_else(
    bank: Replicas, events: Events
) -> None:
    account, other = await opened(bank.bank, 100), await opened(bank.bank)
    paid = await send(bank.bank, deposit(account, 5), key="before")
    await validate(events, {"kind": {"$ne": DEPOSITED}})
    stored = await bank.store.count()
    for command in (deposit(account), transfer(account, other), transfer(other, account)):
        answer = await send(bank.bank, command, key=f"k{command.path}")
        if command == transfer(other, account):
            assert answer.problem == "insufficient-funds"
            continue
        assert (answer.status, answer.problem) == (503, "store-refused"), answer
        assert "Document failed validation" in answer.document["detail"]
        assert "Nothing was stored" in answer.document["detail"]
    assert await bank.store.count() == stored
    assert (await send(bank.bank, withdraw(account, 5))).status == 200
    assert (await send(bank.bank, rename(account))).status == 200
    assert (await send(bank.bank, create())).status == 201
    # What was executed before is answered as then, though it would be refused today.
    again = await send(bank.other, deposit(account, 5), key="before")
    assert (again.content, again.replayed) == (paid.content, True)
    await validate(events, {})
    assert (await send(bank.bank, deposit(account), key="k/deposit")).status == 200
    assert (await send(bank.bank, transfer(account, other), key="k/transfer")).status == 200


async def test_of_many_that_wait_only_the_refused_ones_are_refused(
    bank: Replicas, events: Events
) -> None:
    account, other = await opened(bank.bank, 100), await opened(bank.bank, 100)
    await validate(events, {"kind": {"$ne": DEPOSITED}})
    commands = [deposit(account), withdraw(account), rename(account), transfer(account, other)] * 6
    answers = await asyncio.gather(*(send(bank.bank, each) for each in commands))
    told = [answer.problem or answer.status for answer in answers]
    assert told == ["store-refused", 200, 200, "store-refused"] * 6
    assert (await bank.read(account))["balance"] == 94
    assert (await bank.read(other))["balance"] == 100


async def test_another_unique_index_is_no_conflict(bank: Replicas, events: Events) -> None:
    """Somebody's own index is told by its name, and not taken for one of ours."""
    account = await opened(bank.bank, 100)
    await asyncio.to_thread(lambda: events.create_index("account_id", name="one_each", unique=True))
    for command in (deposit(account), transfer(account, await opened(bank.bank))):
        answer = await send(bank.bank, command)
        assert (answer.status, answer.problem) == (503, "store-refused"), answer
        assert "one_each" in answer.document["detail"]
        assert account not in answer.document["detail"]


def failure(code: int, *labels: str, message: str = "no") -> OperationFailure:
    details = {"code": code, "codeName": f"N{code}", "errmsg": message, "errorLabels": [*labels]}
    return OperationFailure(message, code, details)


DEFINITE = {
    "Unauthorized": failure(13, message="not authorized on bank to execute { insert: 'events' }"),
    "AuthenticationFailed": failure(18),
    "view": failure(166),
    "OutOfDiskSpace": failure(14031),
    "quota": failure(8000),
    "too large": failure(10334),
    "no transactions": failure(20),
    "no sessions": ConfigurationError("Sessions are not supported by this MongoDB deployment"),
}
PASSING = {
    "NotWritablePrimary": failure(10107),
    "PrimarySteppedDown": failure(189),
    "Shutdown": failure(91),
    "WriteConcernFailed": failure(64),
    "unknown commit": failure(14031, "UnknownTransactionCommitResult"),
    "retryable": failure(13, "RetryableWriteError"),
    "lost": AutoReconnect("cut"),
}


@pytest.mark.parametrize("error", DEFINITE.values(), ids=DEFINITE)
def test_what_is_definite(error: PyMongoError) -> None:
    refused = refused_for_good(error)
    assert refused is not None
    assert "{" not in str(refused)


@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING)
def test_what_may_pass(error: PyMongoError) -> None:
    assert refused_for_good(error) is None


Answers = Callable[[EventStore, list[PyMongoError]], None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """`answers(store, errors)`: the store's inserts fail with these, one each, and then work."""

    def give(store: EventStore, errors: list[PyMongoError]) -> None:
        real = store._events.insert_many

        async def insert_many(*args: Any, **options: Any) -> Any:
            if errors:
                raise errors.pop(0)
            return await real(*args, **options)

        monkeypatch.setattr(store._events, "insert_many", insert_many)

    return give


def one() -> Any:
    return [new_event("0" * 26, 1, DEPOSITED, {"money": 1})]


def two() -> Any:
    return [*one(), new_event("1" * 26, 1, WITHDRAWN, {"money": 1})]


@pytest.mark.parametrize("make", [one, two])
@pytest.mark.parametrize("error", DEFINITE.values(), ids=DEFINITE)
async def test_a_definite_refusal_is_told_at_once(
    store: EventStore, answers: Answers, error: PyMongoError, make: Callable[[], Any]
) -> None:
    await store.append(new_event("2" * 26, 1, DEPOSITED, {"money": 1}))
    answers(store, [error] * 3)  # the fourth try would store it
    with pytest.raises(StoreRefused):
        await store.append(*make())
    assert await store.count() == 1


@pytest.mark.parametrize("make", [one, two])
async def test_who_may_not_even_look_is_refused_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    async def unauthorized(_: object) -> None:
        raise failure(13)

    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    monkeypatch.setattr(guards, "collections_of", unauthorized)
    with pytest.raises(StoreRefused):
        await store.append(*make())
    await store.close()


@pytest.mark.parametrize("make", [one, two])
async def test_a_refusal_after_a_lost_answer_is_no_refusal(
    store: EventStore, answers: Answers, make: Callable[[], Any]
) -> None:
    """The earlier try may have stored it: who is told "nothing is stored" would pay again."""
    answers(store, [AutoReconnect("cut"), AutoReconnect("cut"), failure(13), failure(13)])
    with pytest.raises(StoreUnavailable):
        await store.append(*make())


@pytest.mark.parametrize("make", [one, two])
async def test_what_may_pass_is_tried_again(
    store: EventStore, answers: Answers, make: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    answers(store, [failure(10107), failure(189)])
    await store.append(*make())
    assert await store.count() == len(make())


async def test_a_refusal_at_the_commit_is_no_refusal(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver repeats a commit whose answer was lost; the second one may be refused."""
    real, refused = driver.Session.commit_transaction, [failure(13)]

    async def commit(session: driver.Session) -> None:
        await real(session)
        if refused:
            raise refused.pop()

    monkeypatch.setattr(driver.Session, "commit_transaction", commit)
    events = two()
    contested = {events[0]["account_id"]: float("inf")}  # so it is in a transaction of its own
    monkeypatch.setattr(store._appender._transactions, "_contested", contested)
    await store.append(*events)
    assert not refused
    assert await store.count() == len(events)


async def test_one_document_takes_no_other_along(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server, or the driver, may refuse a command because of one of its documents."""
    real, bad = store._events.insert_many, [f"{n}" * 26 for n in (3, 6)]

    async def insert_many(documents: Any, **options: Any) -> Any:
        if any(each["account_id"] in bad and each["version"] == 2 for each in documents):
            raise failure(10334)
        return await real(documents, **options)

    monkeypatch.setattr(store._events, "insert_many", insert_many)
    rows = [
        [new_event(f"{n}" * 26, version, DEPOSITED, {"money": 1}) for version in (1, 2, 3)]
        for n in range(9)
    ]
    outcomes = await asyncio.gather(*(store.append_row(row) for row in rows))
    for n, outcome in enumerate(outcomes):
        assert outcome.number == (1 if n in (3, 6) else 3)
        assert isinstance(outcome.error, StoreRefused) == (n in (3, 6))


async def test_who_may_not_write_is_told_with_all_that_wait(
    store: EventStore, answers: Answers
) -> None:
    """Not one command a round: their number of rounds would be that of the commands."""
    service, context = account_service(store), CommandContext("c")
    await service.open()
    account = (await service.create("Ada", 5, context)).after.id
    errors: list[PyMongoError] = [failure(13) for _ in range(100)]
    answers(store, errors)
    deposits = (service.execute(account, Deposit(1), context) for _ in range(30))
    told = await asyncio.gather(*deposits, return_exceptions=True)
    assert {type(each) for each in told} == {StoreRefused}
    assert len(errors) > 90
