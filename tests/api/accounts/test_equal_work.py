"""What a customer must not tell apart costs the same look-ups: they are counted, not timed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest
from pymongo import monitoring
from ulid import ULID

from api.accounts.app import create_app
from pipeline.banking.money import MAX_MONEY
from pipeline.eventstore import EventStore
from pipeline.model.events import new_event
from pipeline.operations import followed_keys, keys
from pipeline.operations.keys import Key, Role
from pipeline.support.settings import Settings
from tests.bank import history
from tests.harness import eventually
from tests.keys import bearing, guarded, kept, on, revoked
from tests.services import NOBODY, Client, is_ready, problem

NOBODYS: Final = ("ping", "hello", "listCollections", "listIndexes", "endSessions")
"""Commands that depend on the time, and on no request."""


class Commands(monitoring.CommandListener):
    """The names of what is sent to MongoDB."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        # The readiness and the guards look in between, and nobody else is here.
        if event.command_name not in NOBODYS:
            self.seen.append(f"{event.command_name} {event.command.get(event.command_name)}")

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


LISTENER: Final = Commands()
monitoring.register(LISTENER)


@dataclass
class Bank:
    """Two replicas, a payer and its customer."""

    client: Client
    other: Client
    teller: dict[str, str]
    customer: dict[str, str]
    payer: str

    async def opened(self, money: int = 5) -> str:
        body = {"owner": "Ada", "money": money}
        async with self.client.post("/create", json=body, headers=self.teller) as answer:
            return str((await answer.json())["id"])

    async def pays(self, account_id: str) -> None:
        """Both replicas remember both accounts then."""
        for client in (self.client, self.other):
            body = {"from": self.payer, "to": account_id, "money": 1}
            async with client.post("/transfer", json=body, headers=self.customer) as answer:
                assert answer.status == 200, await answer.text()

    async def ends(self, account_id: str, path: str) -> None:
        body = {"id": account_id}
        async with self.other.post(path, json=body, headers=self.teller) as answer:
            assert answer.status == 200, await answer.text()


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Bank]:
    settings, payer = on(settings), str(ULID())
    teller, tellers = keys.new(Role.TELLER)
    customer, customers = keys.new(Role.CUSTOMER, accounts=frozenset({payer}))
    await kept(settings, teller, customer)
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    opening = new_event(payer, 1, "AccountCreated", {"owner": "Ada", "money": 1000})
    await store.append(opening)
    await store.close()
    async with (
        guarded(create_app(settings)) as one,
        guarded(create_app(settings)) as two,
    ):
        for client in (one, two):
            await eventually(lambda client=client: is_ready(client))  # type: ignore[misc]
        yield Bank(one, two, bearing(tellers), bearing(customers), payer)


async def nobody(_: Bank, __: EventStore) -> str:
    return NOBODY


async def frozen(bank: Bank, _: EventStore) -> str:
    account_id = await bank.opened()
    await bank.ends(account_id, "/freeze")
    return account_id


async def frozen_elsewhere(bank: Bank, _: EventStore) -> str:
    """The replica that is asked remembers it as open."""
    account_id = await bank.opened()
    await bank.pays(account_id)
    await bank.ends(account_id, "/freeze")
    return account_id


async def closed(bank: Bank, _: EventStore) -> str:
    account_id = await bank.opened(0)
    await bank.ends(account_id, "/close")
    return account_id


async def full(bank: Bank, _: EventStore) -> str:
    return await bank.opened(MAX_MONEY - 1)


async def unreadable(_: Bank, store: EventStore) -> str:
    account_id = str(ULID())
    await store.append(new_event(account_id, 1, "Unheard", {}))
    return account_id


async def long(bank: Bank, store: EventStore) -> str:
    """With a snapshot, as every long account has one: the reader of the last hundred wrote it."""
    account_id = str(ULID())
    await store.append(*history(account_id, 150))
    await bank.ends(account_id, "/freeze")
    await eventually(lambda: store.snapshots.find(account_id))
    return account_id


PAYEES: Final[list[Callable[[Bank, EventStore], Awaitable[str]]]] = [
    nobody,
    frozen,
    frozen_elsewhere,
    closed,
    full,
    unreadable,
    long,
]


@pytest.mark.parametrize("money", [1, 10**6], ids=["payable", "too much"])
@pytest.mark.parametrize("key", [None, "k"])
async def test_a_payee_that_is_refused(
    settings: Settings, bank: Bank, key: str | None, money: int
) -> None:
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    body: dict[str, Any] = {"from": bank.payer, "money": money}
    name = "payee-refused" if money == 1 else "insufficient-funds"
    work, answers = {}, set()
    await bank.pays(await bank.opened())  # the payer is remembered, in all cases
    for payee in PAYEES:
        body["to"] = await payee(bank, store)
        for often in ("first", "again"):
            headers = {**bank.customer, **({"Idempotency-Key": key} if key else {})}
            LISTENER.seen.clear()
            async with bank.client.post("/transfer", json=body, headers=headers) as answer:
                document = await problem(answer, 422, name)
            # Sorted, for a load reads the snapshot and the key side by side.
            work[payee.__name__, often] = tuple(sorted(LISTENER.seen))
            answers.add(str({**document, "account": None}))
    await store.close()
    assert len(set(work.values())) == 1, work
    assert len(answers) == 1


async def test_a_key_that_lets_nobody_in(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is unknown, revoked, or known with another secret: one hash, one comparison."""
    good, token = keys.new(Role.TELLER)
    gone, revoked_token = keys.new(Role.TELLER)
    _, unknown = keys.new(Role.TELLER)
    settings = on(settings)
    await kept(settings, good, gone)
    await revoked(settings, gone)
    compared: list[str] = []

    def counted(self: Key, secret: str) -> bool:
        compared.append(secret)
        return opened_by(self, secret)

    opened_by = Key.opened_by
    async with guarded(create_app(settings)) as client:
        monkeypatch.setattr(Key, "opened_by", counted)
        wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
        answers = set()
        for number, each in enumerate((unknown, revoked_token, wrong), start=1):
            async with client.get(f"/{NOBODY}", headers=bearing(each)) as answer:
                answers.add(str(await problem(answer, 401, "key-invalid")))
            assert len(compared) == number
        assert len(answers) == 1
    assert not followed_keys._NO_KEY.opened_by("")


async def test_an_account_of_somebody_else_is_not_looked_up(bank: Bank) -> None:
    there = await bank.opened()
    LISTENER.seen.clear()
    answers = set()
    for account_id in (there, NOBODY):
        for path in ("", "/events", "?version=1"):
            url = f"/{account_id}{path}"
            async with bank.client.get(url, headers=bank.customer) as answer:
                answers.add((await problem(answer, 403, "not-allowed"))["detail"])
        body = {"id": account_id, "money": 1}
        async with bank.client.post("/withdraw", json=body, headers=bank.customer) as answer:
            answers.add((await problem(answer, 403, "not-allowed"))["detail"])
    assert not LISTENER.seen
    assert len(answers) == 1
