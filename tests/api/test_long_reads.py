"""What lasts ends with the key that opened it, within a second: streams, waits, and slow bodies."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from aiohttp import ClientConnectionError, ClientResponse

from api.accounts.app import create_app as accounts
from api.balances.app import create_app as balances
from api.balances.waiting import WAITING
from api.http.streams import STREAMS
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.operations import keys
from pipeline.operations.keys import Key, Role
from pipeline.support.settings import Settings
from tests.harness import eventually
from tests.keys import bearing, guarded, kept, on, revoked
from tests.services import Client, is_ready, problem

OWN: Final = "01J00000000000000000000000"
OTHER: Final = "01J00000000000000000000001"
WITHIN: Final = 1.0
BUSY: Final = 5.0
"""The same on a machine that is busy with other tests."""
WAITS: Final = f"/{OWN}?min_version=9&timeout=30"
BODY: Final = b'{"owner": "Ada", "money": 1}'


async def stripped(settings: Settings, key: Key) -> None:
    """Another role, and no account."""
    role = Role.TELLER if key.role is not Role.TELLER else Role.VIEWER
    await kept(settings, key.model_copy(update={"role": role, "accounts": frozenset()}))


async def narrowed(settings: Settings, key: Key) -> None:
    """A customer's key gets other accounts; another's no more than a rate."""
    own = {"accounts": frozenset({OTHER})} if key.accounts else {"rate": 1.0}
    await kept(settings, key.model_copy(update=own))


async def expired(settings: Settings, key: Key) -> None:
    """It gets an end that has come. Of one that comes by itself a test of its own tells."""
    await kept(settings, key.model_copy(update={"expires": datetime.now(UTC)}))


async def damaged(settings: Settings, key: Key) -> None:
    js = await JetStream.connect(settings.nats_url, "test")
    await keys.bucket(js).put(key.id, {"role": "king"})
    await js.close()


async def bucket_lost(settings: Settings, _: Key) -> None:
    js = await JetStream.connect(settings.nats_url, "test")
    await js.context.delete_stream(keys.bucket(js).stream)
    await js.close()


ENDINGS: Final = [revoked, stripped, narrowed, expired, damaged, bucket_lost]
ends = pytest.mark.parametrize("end", ENDINGS, ids=lambda end: end.__name__)
End = Callable[[Settings, Key], Awaitable[None]]


async def stream_ends(answer: ClientResponse) -> float:
    """When the server ended it, and nobody has aborted it."""
    async with asyncio.timeout(30):
        async for _ in answer.content:
            pass
    return time.monotonic()


@dataclass
class Bank:
    settings: Settings
    client: Client

    async def key(self, role: Role, **limits: Any) -> tuple[Key, dict[str, str]]:
        """A key that is known to the service."""
        key, token = keys.new(role, **limits)
        await kept(self.settings, key)
        await eventually(lambda: self.knows(token))
        return key, bearing(token)

    async def knows(self, token: str) -> bool:
        async with self.client.get("/whoami", headers=bearing(token)) as answer:
            return answer.status == 200

    async def waits(self, headers: dict[str, str], name: str = "key-invalid") -> float:
        """When a wait for a version was ended with that problem."""
        async with self.client.get(WAITS, headers=headers) as answer:
            await problem(answer, 503 if name == "keys-unavailable" else 401, name)
            return time.monotonic()


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Bank]:
    settings = on(settings)
    async with guarded(balances(settings)) as client:
        yield Bank(settings, client)


@ends
async def test_a_stream(bank: Bank, end: End) -> None:
    assert bank.client.app is not None
    key, headers = await bank.key(Role.VIEWER)
    _, others = await bank.key(Role.VIEWER)
    async with (
        bank.client.get("/pipeline/events", headers=headers) as answer,
        bank.client.get("/pipeline/events", headers=others) as kept_open,
    ):
        assert await answer.content.readline() == b"event: pipeline\n"
        ended = time.monotonic()
        await end(bank.settings, key)
        assert await stream_ends(answer) - ended < BUSY
        others_end = end is bucket_lost
        assert len(bank.client.app[STREAMS]) == (0 if others_end else 1)
        if not others_end:
            assert await kept_open.content.readline() == b"event: pipeline\n"


async def test_the_feed(bank: Bank) -> None:
    key, headers = await bank.key(Role.VIEWER)
    headers = {**headers, "Accept": "text/event-stream"}
    async with bank.client.get("/events", headers=headers) as answer:
        assert await answer.content.readline() == b"retry: 1000\n"
        ended = time.monotonic()
        await revoked(bank.settings, key)
        assert await stream_ends(answer) - ended < BUSY


@ends
async def test_a_stream_of_a_rebuild(bank: Bank, end: End) -> None:
    key, headers = await bank.key(Role.OPERATOR)
    async with bank.client.post("/balance/rebuild", headers=headers) as answer:
        rebuild = (await answer.json())["id"]
    async with bank.client.get(f"/rebuilds/{rebuild}/events", headers=headers) as answer:
        assert await answer.content.readline() == b"event: progress\n"
        ended = time.monotonic()
        await end(bank.settings, key)
        assert await stream_ends(answer) - ended < BUSY


@ends
async def test_a_wait(bank: Bank, end: End) -> None:
    key, headers = await bank.key(Role.CUSTOMER, accounts=frozenset({OWN}))
    assert bank.client.app is not None
    waits = bank.client.app[WAITING]
    waiting = asyncio.create_task(bank.waits(headers))
    await eventually(lambda: len(waits._waiters) == 1)
    ended = time.monotonic()
    await end(bank.settings, key)
    assert await waiting - ended < BUSY
    assert not waits._waiters


async def test_a_key_that_expires_by_itself(bank: Bank) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=2)
    _, headers = await bank.key(Role.VIEWER, expires=expires)
    waiting = asyncio.create_task(bank.waits(headers))
    async with bank.client.get("/pipeline/events", headers=headers) as answer:
        await stream_ends(answer)
        assert timedelta() <= datetime.now(UTC) - expires < timedelta(seconds=BUSY)
    await waiting


async def test_keys_that_are_not_known_any_more(own_servers: EmbeddedServers) -> None:
    """As new requests, what is open ends when the keys have not been read for too long."""
    settings = on(own_servers.settings, keys_max_age_seconds=2.0)
    async with guarded(balances(settings)) as client:
        bank = Bank(settings, client)
        _, headers = await bank.key(Role.VIEWER)
        waiting = asyncio.create_task(bank.waits(headers, "keys-unavailable"))
        async with client.get("/pipeline/events", headers=headers) as answer:
            assert await answer.content.readline() == b"event: pipeline\n"
            ended = time.monotonic()
            await own_servers.servers["nats"].stop()
            assert await stream_ends(answer) - ended < settings.keys_max_age_seconds + BUSY
        await waiting


@ends
async def test_a_body_that_comes_slowly(settings: Settings, end: End) -> None:
    """A key that has ended when the command is whole has not sent it."""
    settings, (key, token) = on(settings), keys.new(Role.TELLER)
    await kept(settings, key)

    async def slow() -> AsyncIterator[bytes]:
        yield BODY[:5]
        await end(settings, key)
        await asyncio.sleep(WITHIN)
        yield BODY[5:]

    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    async with guarded(accounts(settings)) as client:
        await eventually(lambda: is_ready(client))
        headers = {**bearing(token), "Content-Type": "application/json"}
        with suppress(ClientConnectionError):  # it may go on sending when it is refused
            async with client.post("/create", data=slow(), headers=headers) as answer:
                await problem(answer, 401, "key-invalid")
        assert await store.count() == 0
    await store.close()
