"""The account service over HTTP on a real store: answers, events, replicas, races, stopping."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiohttp import ClientSession

from api.accounts.app import create_app
from api.accounts.refusals import translate
from api.accounts.service import AccountService
from pipeline.banking.commands import Withdraw
from pipeline.commands import CommandContext, TooManyConflicts
from pipeline.commands.execution import ATTEMPTS
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import AppendResult, EventStore, StoreUnavailable, VersionConflict
from pipeline.model.events import Event
from pipeline.support.settings import Settings
from tests.accounts import account_service, fold
from tests.conftest import placed
from tests.harness import Role, eventually, rounds
from tests.ports import free_port
from tests.services import NOBODY, Client, problem, serving


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[EventStore]:
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    yield store
    await store.close()


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        yield client


@pytest.fixture
async def replica(settings: Settings) -> AsyncIterator[Client]:
    """A second service on the store of `bank`."""
    async with serving(create_app(settings)) as client:
        yield client


async def send(client: Client, path: str, **command: Any) -> dict[str, Any]:
    """POST a command that must succeed; returns the answer's document."""
    async with client.post(path, json=command) as answer:
        assert answer.status == (201 if path == "/create" else 200), await answer.text()
        document: dict[str, Any] = await answer.json()
        assert answer.headers["ETag"] == f'"{document["version"]}"'
        return document


async def opened(client: Client, money: int) -> str:
    return str((await send(client, "/create", owner="Ada", money=money))["id"])


async def attempt(client: Client, path: str, **command: Any) -> int:
    """POST a command; returns the status."""
    async with client.post(path, json=command) as answer:
        await answer.read()
        return answer.status


async def read(client: Client, account_id: str) -> dict[str, Any]:
    async with client.get(f"/{account_id}") as answer:
        assert answer.status == 200
        document: dict[str, Any] = await answer.json()
        assert answer.headers["ETag"] == f'"{document["version"]}"'
        return document


def told(event: Event) -> tuple[int, str, dict[str, Any]]:
    return event["version"], event["kind"], dict(event["body"])


async def test_create_answers_where_the_account_is(bank: Client, store: EventStore) -> None:
    async with bank.post("/create", json={"owner": "Ada Ω 👩‍🚀", "money": 7}) as answer:
        assert answer.status == 201
        document = await answer.json()
        assert answer.headers["Location"] == f"/{document['id']}"
        assert answer.headers["ETag"] == '"1"'
    expected = {"owner": "Ada Ω 👩‍🚀", "balance": 7, "version": 1, "status": "open"}
    assert document == {"id": document["id"], "available": 7, "holds": [], **expected}
    assert await read(bank, document["id"]) == document
    (event,) = await store.load(document["id"])
    assert told(event) == (1, "AccountCreated", {"owner": "Ada Ω 👩‍🚀", "money": 7})


async def test_commands_answer_the_new_state_and_store_one_event_each(
    bank: Client, store: EventStore
) -> None:
    account = await opened(bank, 0)
    assert (await send(bank, "/deposit", id=account, money=50))["balance"] == 50
    assert (await send(bank, "/withdraw", id=account, money=20))["balance"] == 30
    async with bank.patch(f"/{account}", json={"owner": "Grace"}) as answer:
        assert answer.status == 200
        after = await answer.json()
    expected = {"owner": "Grace", "balance": 30, "version": 4, "status": "open"}
    all_is_available = {"available": 30, "holds": []}
    assert after == await read(bank, account) == {"id": account, **all_is_available, **expected}
    assert [told(event) for event in await store.load(account)] == [
        (1, "AccountCreated", {"owner": "Ada", "money": 0}),
        (2, "MoneyDeposited", {"money": 50}),
        (3, "MoneyWithdrawn", {"money": 20}),
        (4, "OwnerUpdated", {"owner": "Grace"}),
    ]


async def test_a_transfer_is_two_events_that_know_each_other(
    bank: Client, store: EventStore
) -> None:
    source, target = await opened(bank, 10), await opened(bank, 1)
    answer = await send(bank, "/transfer", **{"from": source, "to": target, "money": 10})
    assert (answer["id"], answer["balance"], answer["version"]) == (source, 0, 2)
    assert (await read(bank, target))["balance"] == 11
    (paid,), (got,) = await store.load(source, after=1), await store.load(target, after=1)
    transfer = answer["transfer"]
    assert transfer["counterparty"] == target
    assert told(paid) == (2, "MoneyWithdrawn", {"money": 10, "transfer": transfer})
    back = {"id": transfer["id"], "counterparty": source}
    assert told(got) == (2, "MoneyDeposited", {"money": 10, "transfer": back})
    assert got["causation_id"] == paid["_id"]
    assert "causation_id" not in paid
    assert got["correlation_id"] == paid["correlation_id"]


async def test_the_correlation_id_goes_from_the_request_to_the_event(
    bank: Client, store: EventStore
) -> None:
    account = await opened(bank, 0)
    command = {"id": account, "money": 1}
    for given, kept in (("order 66", True), ("x" * 101, False), ("é", False), ("", False)):
        headers = {"X-Correlation-ID": given}
        async with bank.post("/deposit", json=command, headers=headers) as answer:
            assert answer.status == 200
            shown = answer.headers["X-Correlation-ID"]
        event = (await store.load(account))[-1]
        assert event["correlation_id"] == shown
        assert (shown == given) == kept
    ids = {event["correlation_id"] for event in await store.load(account)}
    assert len(ids) == 5


async def test_of_withdrawals_of_the_last_coin_exactly_one_wins(
    bank: Client, replica: Client
) -> None:
    for _ in range(rounds(40, 200)):
        account = await opened(bank, 1)
        rivals = [bank, replica, bank, replica]
        random.shuffle(rivals)
        statuses = await asyncio.gather(
            *(attempt(rival, "/withdraw", id=account, money=1) for rival in rivals)
        )
        assert sorted(statuses) == [200, 422, 422, 422]
        after = await read(replica, account)
        assert (after["balance"], after["version"]) == (0, 2)


async def test_a_storm_on_one_account_ends_with_the_right_sum(
    bank: Client, replica: Client, store: EventStore
) -> None:
    account = await opened(bank, 0)
    clients = [bank, replica] * rounds(60, 600)
    statuses = await asyncio.gather(
        *(attempt(client, "/deposit", id=account, money=3) for client in clients)
    )
    assert set(statuses) <= {200, 409}
    done = statuses.count(200)
    assert done >= len(clients) // 2
    after = await read(bank, account)
    assert (after["balance"], after["version"]) == (3 * done, 1 + done)
    versions = [event["version"] for event in await store.load(account)]
    assert versions == list(range(1, done + 2))


async def test_one_service_never_conflicts_with_itself(bank: Client, store: EventStore) -> None:
    account, other = await opened(bank, 1000), await opened(bank, 1000)
    there, back = {"from": account, "to": other}, {"from": other, "to": account}
    statuses = await asyncio.gather(
        *(attempt(bank, "/deposit", id=account, money=1) for _ in range(40)),
        *(attempt(bank, "/transfer", **there, money=1) for _ in range(20)),
        *(attempt(bank, "/transfer", **back, money=2) for _ in range(20)),
    )
    assert set(statuses) == {200}
    balances = [(await read(bank, each))["balance"] for each in (account, other)]
    assert balances == [1000 + 40 - 20 + 40, 1000 + 20 - 40]


async def test_transfers_to_and_fro_on_two_replicas_keep_the_sum(
    bank: Client, replica: Client, store: EventStore
) -> None:
    accounts = [await opened(bank, 20) for _ in range(4)]

    async def some_transfers(client: Client, seed: int) -> list[int]:
        chance = random.Random(seed)
        statuses = []
        for _ in range(rounds(8, 80)):
            source, target = chance.sample(accounts, 2)
            command = {"from": source, "to": target, "money": chance.randint(1, 15)}
            statuses.append(await attempt(client, "/transfer", **command))
        return statuses

    ran = await asyncio.gather(
        *(some_transfers(client, seed) for seed, client in enumerate([bank, replica] * 4))
    )
    statuses = [status for each in ran for status in each]
    assert set(statuses) <= {200, 409, 422}
    assert 200 in statuses
    stored = {account: await store.load(account) for account in accounts}
    assert sum(fold(account, events).state.balance for account, events in stored.items()) == 80
    assert await store.count() == 4 + 2 * statuses.count(200)
    legs = [event["body"]["transfer"]["id"] for es in stored.values() for event in es[1:]]
    assert all(legs.count(leg) == 2 for leg in legs)


async def test_no_refusal_on_a_remembered_state(bank: Client, replica: Client) -> None:
    """`bank` remembers an empty account; what `replica` paid in must count at once."""
    account = await opened(bank, 0)
    await send(replica, "/deposit", id=account, money=5)
    assert (await send(bank, "/withdraw", id=account, money=5))["version"] == 3
    await send(replica, "/deposit", id=account, money=1)
    assert (await read(bank, account))["balance"] == 1


class Forgetful(EventStore):
    """A store whose answers get lost, after the events were stored, while `losing`."""

    losing = False

    async def append_row(self, events: Sequence[Event], epoch: int | None = None) -> AppendResult:
        stored = await super().append_row(events, epoch)
        return AppendResult(0, StoreUnavailable("the answer was lost")) if self.losing else stored


async def test_after_an_unknown_outcome_the_store_is_asked(settings: Settings) -> None:
    store = Forgetful(settings.mongodb_url, settings.mongodb_database)
    service = account_service(store)
    with pytest.raises(StoreUnavailable):
        await service.create("Ada", 1, CommandContext("c"))
    await service.open()
    account = (await service.create("Ada", 10, CommandContext("c"))).after
    store.losing = True
    with pytest.raises(StoreUnavailable):
        await service.execute(account.id, Withdraw(4), CommandContext("c"))
    store.losing = False
    after = (await service.execute(account.id, Withdraw(6), CommandContext("c"))).after
    assert (after.state.balance, after.version) == (0, 3)
    await store.close()


class Contested(EventStore):
    """A store where somebody else is always first."""

    tries = 0

    async def append_row(self, events: Sequence[Event], epoch: int | None = None) -> AppendResult:
        self.tries += 1
        return AppendResult(0, VersionConflict(events[0]["account_id"], events[0]["version"]))


async def test_conflicts_end_after_some_attempts(settings: Settings) -> None:
    store = Contested(settings.mongodb_url, settings.mongodb_database)
    service = account_service(store)
    await service.open()
    with pytest.raises(TooManyConflicts) as refusal:
        await service.create("Ada", 1, CommandContext("c"))
    assert store.tries == ATTEMPTS
    answer = translate(refusal.value)
    assert answer is not None
    assert (answer.status, answer.name) == (409, "too-many-conflicts")
    await store.close()


async def test_a_fault_of_ours_tells_the_log_and_not_the_client(
    bank: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(AccountService, "get", broken)
    async with bank.get(f"/{NOBODY}", headers={"X-Correlation-ID": "order 66"}) as answer:
        document = await problem(answer, 500, "internal-error")
    assert "secret" not in str(document)
    assert "order 66" in document["detail"]
    assert "RuntimeError: secret" in caplog.text


async def test_it_starts_without_mongodb_and_works_once_that_is_there(settings: Settings) -> None:
    port = free_port()
    elsewhere = placed(settings.data_dir, mongodb_url=f"mongodb://127.0.0.1:{port}")
    async with serving(create_app(elsewhere), ready=False) as client:
        async with client.get("/livez") as answer:
            assert answer.status == 200
        async with client.get("/readyz") as answer:
            assert (await problem(answer, 503, "not-ready"))["missing"] == ["mongodb"]
        async with client.post("/create", json={"owner": "Ada", "money": 1}) as answer:
            await problem(answer, 503, "store-unavailable")
            assert answer.headers["Retry-After"]
        servers = EmbeddedServers(elsewhere, ["mongodb"])
        await servers.start()
        try:
            await eventually(lambda: attempt_create(client), message="an account is opened")
            async with client.get("/readyz") as answer:
                assert answer.status == 200
        finally:
            await servers.stop()


async def attempt_create(client: Client) -> bool:
    return await attempt(client, "/create", owner="Ada", money=1) == 201


HEAD = (
    b"POST /create HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 27\r\n\r\n"
)
BODY = b'{"owner": "Ada", "money":1}'


Start = Callable[..., Awaitable[Role]]


async def running(role: Start, settings: Settings) -> Role:
    """The service as a process, ready."""
    service = await role("python", "-m", "api.accounts")

    async def ready() -> bool:
        async with ClientSession() as http:
            url = f"http://127.0.0.1:{settings.accounts_port}/readyz"
            async with http.get(url) as answer:
                return answer.status == 200

    await eventually(ready, message="ready")
    return service


async def refuses(port: int) -> bool:
    """Whether nobody listens."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


async def test_sigterm_finishes_what_is_under_way(
    role: Start, settings: Settings, store: EventStore
) -> None:
    service = await running(role, settings)
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.accounts_port)
    writer.write(HEAD + BODY[:10])
    await writer.drain()
    await asyncio.sleep(0.2)  # Its handler waits for the rest of the body.
    await service.kill(signal.SIGTERM)
    await eventually(lambda: "stopping" in service.log())
    await eventually(lambda: refuses(settings.accounts_port))
    writer.write(BODY[10:])
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert await service.wait() == 0
    assert await store.count() == 1


async def test_a_second_sigterm_leaves_at_once(role: Start, settings: Settings) -> None:
    service = await running(role, settings)
    _, writer = await asyncio.open_connection("127.0.0.1", settings.accounts_port)
    writer.write(HEAD)
    await writer.drain()
    await asyncio.sleep(0.2)
    await service.kill(signal.SIGTERM)
    await eventually(lambda: "stopping" in service.log())
    await service.kill(signal.SIGTERM)
    assert await service.wait(seconds=10) == -signal.SIGTERM
    writer.close()


async def test_a_taken_port_and_a_wrong_setting_are_named(role: Start, bank: Client) -> None:
    for environ, named in (
        ({"BANK_ACCOUNTS_PORT": str(bank.port)}, f"127.0.0.1:{bank.port}"),
        ({"BANK_ACCOUNTS_PORT": str(bank.port)}, "BANK_ACCOUNTS_PORT"),
        ({"BANK_HOST": "203.0.113.1"}, "BANK_HOST"),
        ({"BANK_PARTITION": "8"}, "BANK_PARTITION"),
    ):
        service = await role("python", "-m", "api.accounts", **environ)
        assert await service.wait() == 1
        assert named in service.log()
        assert "Traceback" not in service.log()
