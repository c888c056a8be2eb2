"""A bank on the session's servers, and one on servers of the test's own."""

from collections.abc import AsyncIterator

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.search import Elastic
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_jobs import RebuildJobs
from tests.agents.rebuild.bank import Bank, Start
from tests.harness import Role


@pytest.fixture
async def bank(settings: Settings, role: Start) -> AsyncIterator[Bank]:
    async for opened in _opened(settings, role):
        yield opened


@pytest.fixture
async def own_bank(own_servers: EmbeddedServers) -> AsyncIterator[Bank]:
    """On servers that may be killed."""
    roles: list[Role] = []

    async def start(*command: str, **environ: str) -> Role:
        roles.append(Role(own_servers.settings, *command, **environ))
        await roles[-1].start()
        return roles[-1]

    async for opened in _opened(own_servers.settings, start):
        yield opened
    for each in roles:
        await each.close()


async def _opened(settings: Settings, start: Start) -> AsyncIterator[Bank]:
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    js = await JetStream.connect(settings.nats_url, "test")
    elastic = Elastic(settings.elasticsearch_url)
    yield Bank(settings, store, RebuildJobs(js, BALANCE), elastic, start)
    await elastic.close()
    await js.close()
    await store.close()
