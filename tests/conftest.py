"""Servers for the tests: embedded ones on free ports, in a folder of this run.

BANK_TEST_MONGODB_URL, …_NATS_URL, …_REDIS_URL and …_ELASTICSEARCH_URL each put another in the place
of one; it is wiped before every test. `pytest -n 2` wants two URLs there, with a space between.
"""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import nats
import pymongo
import pytest
import redis.asyncio
from pymongo.collection import Collection

from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.model import upcasters
from pipeline.support.cancellation import mend_wait_for
from pipeline.support.settings import Settings
from pipeline.testing import InMemoryEventStore
from tests.certificates import make
from tests.harness import AnyStore, Role, Servers, eventually
from tests.ports import free_port

OURS = ("balance", "statement", "turnover", "flows", "owners", "bank-", "post-", "cases-")
"""How the names of the indexes begin that tests may delete."""

mend_wait_for()  # as each role and command does


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take longest comes first.

    pytest-xdist steals from the end of a queue: what is long and last there is handed on until all
    else is done, and then the other workers wait for it.
    """
    items.sort(key=_patience, reverse=True)


def _patience(item: pytest.Item) -> float:
    """The seconds that a test asks for, 1 for a drill, 0 for any other."""
    timeout = item.get_closest_marker("timeout")
    return float(timeout.args[0] if timeout else item.get_closest_marker("drill") is not None)


def placed(data_dir: Path, **changes: object) -> Settings:
    """Settings for servers on free ports of this machine, with their data in `data_dir`.

    One projection, unless a test asks for more: each costs a worker about as much as the first.
    """
    urls = {
        f"{name}_url": f"{w.scheme}://127.0.0.1:{free_port()}"
        for name, w in SERVER_BINARIES.items()
    }
    services = {"accounts_port": free_port(), "balances_port": free_port()}
    return Settings.model_validate(
        {
            "data_dir": data_dir,
            "lease_seconds": 2,
            "projections": "balance",
            **urls,
            **services,
            **changes,
        }
    )


def beside(settings: Settings, application: str, projections: str) -> Settings:
    """Settings of another application on the same servers, with a database of its own."""
    urls = {name: getattr(settings, name) for name in type(settings).model_fields if "_url" in name}
    return placed(
        settings.data_dir,
        application=application,
        projections=projections,
        mongodb_database=f"{settings.mongodb_database[:32]}-other",
        **urls,
    )


def given_url(setting: str) -> str | None:
    """The URL that is given to this process; each of several that run at once has its own."""
    urls = os.environ.get(setting, "").split()
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    assert not urls or number < len(urls), f"{setting} has {len(urls)} URLs, and none for me"
    return urls[number] if urls else None


@pytest.fixture(autouse=True)
def upcasters_of_the_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever application a test has this process go by, the next test begins with the bank."""
    monkeypatch.setattr(upcasters, "_chosen", None)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder with a short path, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bank-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """The folder of `deploy/secure/make.sh`."""
    with tempfile.TemporaryDirectory(prefix="bank-made-") as folder:
        make(Path(folder))
        yield Path(folder)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The session's servers. Tests share them: `settings` wipes them before each test."""
    folder = Path(tempfile.mkdtemp(prefix="bank-tests-"))
    given = {name: given_url(f"BANK_TEST_{name.upper()}_URL") for name in SERVER_BINARIES}
    own = [name for name, url in given.items() if not url]
    embedded = EmbeddedServers(placed(folder), own)
    asyncio.run(embedded.start())
    try:
        urls = {n: url or embedded.servers[n].url for n, url in given.items()}
        yield Servers(**{f"{name}_url": url for name, url in urls.items()}, data_dir=folder)
    finally:
        asyncio.run(embedded.stop())
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def settings(servers: Servers, scratch: Path) -> AsyncIterator[Settings]:
    """Settings on the session's servers, wiped, with a database of this test alone."""
    await asyncio.gather(
        wipe_nats(servers.nats_url),
        wipe_redis(servers.redis_url),
        wipe_elasticsearch(servers.elasticsearch_url),
    )
    database = f"test-{uuid.uuid4().hex}"
    yield placed(
        scratch,
        mongodb_url=servers.mongodb_url,
        nats_url=servers.nats_url,
        redis_url=servers.redis_url,
        elasticsearch_url=servers.elasticsearch_url,
        mongodb_database=database[:38],
    )
    if os.environ.get("BANK_TEST_MONGODB_URL"):  # an embedded one's folder goes as a whole
        await asyncio.to_thread(drop_database, servers.mongodb_url, database[:38])


@pytest.fixture
async def own_servers(scratch: Path) -> AsyncIterator[EmbeddedServers]:
    """Embedded servers of this test alone, to kill and restart; `.settings` are those on them."""
    embedded = EmbeddedServers(placed(scratch))
    await embedded.start()
    yield embedded
    # Their data goes with them: a stop in good order takes two seconds, to write it down.
    await asyncio.gather(*(server.kill() for server in embedded.servers.values()))
    await embedded.stop()


@pytest.fixture
async def role(settings: Settings) -> AsyncIterator[Callable[..., Awaitable[Role]]]:
    """`await role("bank", "forwarder")` starts one with `settings`; all are stopped afterwards."""
    started: list[Role] = []

    async def start(*command: str, **environ: str) -> Role:
        started.append(Role(settings, *command, **environ))
        await started[-1].start()
        return started[-1]

    yield start
    await asyncio.gather(*(each.close() for each in started))


async def wipe_nats(url: str) -> None:
    """Delete every stream; with them go consumers and KV buckets."""
    client = await nats.connect(url)
    js = client.jetstream()
    for name in [info.config.name for info in await js.streams_info()]:
        await js.delete_stream(str(name))
    await client.close()


async def wipe_redis(url: str) -> None:
    async with redis.asyncio.from_url(url) as client:
        await client.flushall()


async def wipe_elasticsearch(url: str) -> None:
    """Delete the bank's indexes, each by its name: Elasticsearch wants it so."""
    async with aiohttp.ClientSession(url) as http:
        async with http.get("/_alias") as answer:
            names = [name for name in await answer.json() if name.startswith(OURS)]
        for name in names:
            async with http.delete(f"/{name}") as answer:
                assert answer.status in (200, 404), await answer.text()


def drop_database(url: str, name: str) -> None:
    with pymongo.MongoClient[dict[str, object]](url, retryWrites=False) as client:
        client.drop_database(name)


@pytest.fixture
async def mongodb_store(settings: Settings) -> AsyncIterator[EventStore]:
    """The event store of these settings, with its indexes."""
    store = EventStore(settings.mongodb_url, settings.mongodb_database)

    async def ready() -> bool:
        await store.setup()
        return True

    try:
        await eventually(ready)
        yield store
    finally:
        await store.close()


@pytest.fixture
def store(mongodb_store: EventStore) -> EventStore:
    """The event store; a module whose tests go for both kinds has `any_store` in its place."""
    return mongodb_store


@pytest.fixture(params=["mongodb", "memory"])
def any_store(request: pytest.FixtureRequest) -> AnyStore:
    """One of each kind: what a test says of it holds for both."""
    if request.param == "memory":
        return InMemoryEventStore()
    real: EventStore = request.getfixturevalue("mongodb_store")
    return real


@pytest.fixture
def events(settings: Settings) -> Iterator[Collection[dict[str, Any]]]:
    """The collection of events, to change by hand."""
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False) as client:
        yield client[settings.mongodb_database]["events"]


@pytest.fixture
async def js(settings: Settings) -> AsyncIterator[JetStream]:
    """A connection to JetStream."""
    js = await JetStream.connect(settings.nats_url, "test")
    yield js
    await js.close()
