"""Commands over HTTP as tests send them: every kind, with keys and conditions, to any replica."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from api.accounts.app import create_app
from pipeline.eventstore import EventStore
from pipeline.support.settings import Settings
from tests.services import Client, serving


class Command(NamedTuple):
    """A request: method, path and body."""

    method: str
    path: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `replayed` and `etag` are headers of it."""

    status: int
    body: bytes
    document: dict[str, Any]
    etag: str | None
    location: str | None
    replayed: bool

    @property
    def problem(self) -> str:
        """The name of the problem that it is, "" if it is none."""
        return str(self.document.get("type", "")).removeprefix("/problems/")

    @property
    def content(self) -> tuple[int, bytes, str | None, str | None]:
        """All that must be the same when it is given again."""
        return self.status, self.body, self.etag, self.location


def create(owner: str = "Ada", money: int = 0) -> Command:
    return Command("POST", "/create", {"owner": owner, "money": money})


def deposit(account: str, money: int = 1) -> Command:
    return Command("POST", "/deposit", {"id": account, "money": money})


def withdraw(account: str, money: int = 1) -> Command:
    return Command("POST", "/withdraw", {"id": account, "money": money})


def transfer(source: str, target: str, money: int = 1) -> Command:
    return Command("POST", "/transfer", {"from": source, "to": target, "money": money})


def rename(account: str, owner: str = "Grace") -> Command:
    return Command("PATCH", f"/{account}", {"owner": owner})


def freeze(account: str) -> Command:
    return Command("POST", "/freeze", {"id": account})


def unfreeze(account: str) -> Command:
    return Command("POST", "/unfreeze", {"id": account})


def close(account: str) -> Command:
    return Command("POST", "/close", {"id": account})


def hold(account: str, money: int = 1, seconds: int = 3600) -> Command:
    return Command("POST", "/hold", {"id": account, "money": money, "seconds": seconds})


def capture(account: str, named: str, money: int | None = None) -> Command:
    body = {"id": account, "hold": named}
    return Command("POST", "/capture", body if money is None else {**body, "money": money})


def void(account: str, named: str) -> Command:
    return Command("POST", "/void", {"id": account, "hold": named})


async def send(
    client: Client, command: Command, *, key: str | None = None, if_match: str | None = None
) -> Answer:
    given = {"Idempotency-Key": key, "If-Match": if_match}
    headers = {name: value for name, value in given.items() if value is not None}
    async with client.request(
        command.method, command.path, json=command.body, headers=headers
    ) as answer:
        body = await answer.read()
        return Answer(
            answer.status,
            body,
            await answer.json(content_type=None),
            answer.headers.get("ETag"),
            answer.headers.get("Location"),
            answer.headers.get("Idempotent-Replayed") == "true",
        )


async def opened(client: Client, money: int = 0) -> str:
    """The id of a new account."""
    answer = await send(client, create(money=money))
    assert answer.status == 201, answer
    return str(answer.document["id"])


@dataclass(frozen=True, slots=True)
class Replicas:
    """Two account services behind one store, and that store."""

    bank: Client
    other: Client
    store: EventStore

    def __getitem__(self, number: int) -> Client:
        """One of the two, by turns."""
        return self.other if number % 2 else self.bank

    async def read(self, account: str) -> dict[str, Any]:
        """The account as the store has it."""
        async with self.bank.get(f"/{account}") as answer:
            assert answer.status == 200
            return dict(await answer.json())


@asynccontextmanager
async def replicas(settings: Settings) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(serving(create_app(settings))) for _ in "ab"]
        store = EventStore(settings.mongodb_url, settings.mongodb_database)
        stack.push_async_callback(store.close)
        yield Replicas(clients[0], clients[1], store)
